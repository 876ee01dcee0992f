"""The page of the guide tells of every analysis, in the words of its docstring."""

from pathlib import Path

from spikescope.analysis import registry

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "analysis.md"


def row(measure):
    """A line of the table."""
    return f"| `{measure.name}` | {measure.says} | {', '.join(measure.takes)} | {measure.source} |"


def test_the_table_is_that_of_the_registry():
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert shown == [row(measure) for measure in registry.values()]
