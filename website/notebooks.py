"""Makes notebooks of pages, for Jupyter and Colab: `python -m website.notebooks`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .assemble import DOCS

PAGES = ("start/first.md", "tutorials/monitor.md")
FOLDER = DOCS / "notebooks"
BLOCK = re.compile(
    r"```python\n(?P<code>.*?)\n```(?:\n\n```text\n(?P<shown>.*?\n)```)?|!\[(?P<alt>.*?)\]\((?P<picture>.*?)\)",
    re.DOTALL,
)
SETUP = """try:
    import spikescope
except ImportError:
    %pip install --quiet "spikescope[all]\""""


def cells(text: str) -> Iterator[dict[str, Any]]:
    """The page as cells: what it shows of a block is its output, and a picture is shown from where the code drew it."""
    last = 0
    for block in BLOCK.finditer(text):
        yield from words(text[last : block.start()])
        if block["code"] is not None:
            yield code(block["code"], block["shown"])
        else:
            yield code(f'from IPython.display import Image\n\nImage("{block["picture"].rpartition("/")[2]}")', None)
        last = block.end()
    yield from words(text[last:])


def words(text: str) -> Iterator[dict[str, Any]]:
    if text.strip():
        yield {"cell_type": "markdown", "metadata": {}, "source": text.strip()}


def code(text: str, shown: str | None) -> dict[str, Any]:
    outputs = [] if shown is None else [{"output_type": "stream", "name": "stdout", "text": shown}]
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs, "source": text}


def notebook(text: str) -> str:
    """The page as the text of a notebook, which begins by installing what is not there."""
    title, _, rest = text.partition("\n\n")
    made = [*words(title), code(SETUP, None), *cells(rest)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    numbered = [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(made)]
    whole = {"cells": numbered, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page in PAGES:
        path = (FOLDER / page.rpartition("/")[2]).with_suffix(".ipynb")
        path.write_text(notebook((DOCS / page).read_text(encoding="utf-8")), encoding="utf-8")
        print(path)
