"""The notebooks are the pages that they are made of, and run in Jupyter from the first cell to the last."""

import pytest
from website.notebooks import DOCS, FOLDER, PAGES, notebook

NOTEBOOKS = [(DOCS / page, (FOLDER / page.rpartition("/")[2]).with_suffix(".ipynb")) for page in PAGES]


@pytest.mark.parametrize(("page", "path"), NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_its_page(page, path):
    assert path.read_text() == notebook(page.read_text()), "run `python -m website.notebooks`"


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(("page", "path"), NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(page, path, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="notebooks need nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="notebooks need nbclient and ipykernel")
    held = nbformat.read(path, as_version=4)
    nbformat.validate(held)
    shown = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in held.cells]
    client = nbclient.NotebookClient(held, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    came = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in held.cells]
    assert [bool(text) for text in came] == [bool(text) for text in shown]
