"""Draw the pictures of the pages anew, by their own code: `python docs/draw.py [page ...]`."""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def main(names: list[str]) -> None:
    """Run the code of the pages where the pictures are kept: what a page saves is what it shows."""
    pages = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("guide/*.md")])
    if unknown := set(names) - {page.stem for page in pages}:
        sys.exit(f"no pages are called {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in pages)}")
    os.chdir(DOCS / "images")
    for page in pages:
        if not names or page.stem in names:
            scope: dict[str, object] = {}
            for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
                exec(code, scope)


if __name__ == "__main__":
    main(sys.argv[1:])
