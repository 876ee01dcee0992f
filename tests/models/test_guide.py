"""The table of the guide is the table of the room, beside what the reference counts."""

import json
import re
from pathlib import Path

from spikescope.models import LAYOUTS
from spikescope.models.table import VARIANTS

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "models.md"
STORED = json.loads(Path(__file__).with_name("reference.json").read_text())


def test_the_guide_lists_every_model_with_its_counts():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    listed = {row[0].strip("`"): row[1:] for row in rows if len(row) == 5 and re.fullmatch(r"`\w+`", row[0])}
    assert list(listed) == list(VARIANTS)
    for name, (image, parameters, theirs, paper) in listed.items():
        row = VARIANTS[name]
        assert image == " x ".join(map(str, row.image))
        assert parameters == f"{row.parameters:,}"
        assert theirs == (f"{STORED[name]['parameters']:,}" if name in STORED else "")
        assert paper == ("" if row.paper is None else f"{row.paper:.2f} M")


def test_the_guide_lists_every_layout_of_published_weights():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    listed = {row[0]: row[1:] for row in rows if row and row[0] in LAYOUTS}
    assert listed == {label: [f"`{row.network.__name__}`", row.code, row.note] for label, row in LAYOUTS.items()}
