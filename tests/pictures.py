"""Pictures that are made and not drawn: drawing one takes as long as a short training."""

from importlib.util import find_spec
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def leave_undrawn(monkeypatch):
    """Whatever is saved of a figure is a file that begins as a PNG does, and shows nothing."""
    if find_spec("matplotlib"):
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", _saved)


def _saved(figure, to, **options):
    if hasattr(to, "write"):
        to.write(SIGNATURE)
    else:
        Path(to).write_bytes(SIGNATURE)
