"""Draw the pictures of the pages anew, by their own code: `python docs/draw.py [page ...]`."""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def main(names: list[str]) -> None:
    """Run the code of the pages in a folder that goes away, and keep its pictures: a page shows what it saves."""
    pages = sorted(page for page in DOCS.glob("*/*.md") if not page.stem.endswith(".zh"))
    if unknown := set(names) - {page.stem for page in pages}:
        sys.exit(f"no pages are called {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in pages)}")
    for page in pages:
        if not names or page.stem in names:
            with tempfile.TemporaryDirectory() as place:
                os.chdir(place)
                scope: dict[str, object] = {}
                for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
                    exec(code, scope)
                for picture in (*Path(place).glob("*.png"), *Path(place).glob("*.gif")):
                    shutil.copy(picture, DOCS / "images")
                os.chdir(DOCS)


if __name__ == "__main__":
    main(sys.argv[1:])
