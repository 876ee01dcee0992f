"""Take the picture of a report that the pages show: `python docs/shoot.py RUN`, with Chromium."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402  # of the tests
from spikescope.view import report  # noqa: E402

HEIGHT = 1495
"""Pixels from the top that the picture shows: to the end of the courses of a training."""


def main(run: str) -> None:
    """Write docs/images/report.png of the folder of a run."""
    browser = Browser()
    try:
        with tempfile.TemporaryDirectory() as place:
            browser.open(report(run, to=Path(place) / "report.html"), 1180, HEIGHT)
            browser.picture(ROOT / "docs" / "images" / "report.png", whole=False)
    finally:
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
