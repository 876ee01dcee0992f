"""The notebooks are the pages that they are made of, and run in Jupyter from the first cell to the last."""

import pytest
from website.notebooks import DOCS, FOLDER, PAGES, notebook

NOTEBOOKS = [(DOCS / page, (FOLDER / page.rpartition("/")[2]).with_suffix(".ipynb")) for page in PAGES]


def said(cell, stream):
    """What a cell has written to a stream."""
    return "".join(output.get("text", "") for output in cell.get("outputs", ()) if output.get("name") == stream)


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
    shown = [bool(said(cell, "stdout")) for cell in held.cells]
    client = nbclient.NotebookClient(held, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert [bool(said(cell, "stdout")) for cell in held.cells] == shown
    ours = [text for text in (said(cell, "stderr") for cell in held.cells) if "spikescope" in text]
    assert ours == []  # others may say what a machine is like, as that a cache of fonts is being made
