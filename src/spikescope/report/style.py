"""One look for all pictures: colours that colour-blind readers tell apart, sizes, and blank figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from ..errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "GREY", "INK", "PALE", "blank", "heading", "note", "room", "styled", "tidy"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The palette of Okabe and Ito (2008), the strong colours first."""

INK = "#22262B"
GREY = "#6B737C"
PALE = "#D5DADF"

MANY = 12  # rows up to which each has its full height

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#9AA3AC",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.axisbelow": True,
    "grid.color": "#E8EBEE",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 160,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in this look; the reader's own settings of matplotlib stay as they are."""

    @wraps(draw)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            from matplotlib import rc_context, rcParamsDefault
        except ImportError:
            raise missing_extra("matplotlib", "report", "Pictures") from None
        settings: Any = {name: held for name, held in rcParamsDefault.items() if not name.startswith("backend")}
        with rc_context(settings | _SETTINGS):
            return draw(*args, **kwargs)

    return drawing


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.09, wspace=0.04, hspace=0.05)
    return figure


def room(rows: int, full: float, least: float) -> float:
    """The height of a row, in inches: `full`, or less of many, so that all together grow only from `least` on.

    >>> [room(rows, full=1.5, least=0.6) for rows in (1, 12, 24, 30, 100)]
    [1.5, 1.5, 0.75, 0.6, 0.6]
    """
    return min(full, max(least, full * MANY / max(1, rows)))


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "", grid: Literal["", "x", "y"] = "y") -> None:
    """Title, labels and a light grid."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if grid:
        axes.grid(axis=grid)


def heading(figure: Figure, title: str, detail: str) -> None:
    """A title over the whole figure with a line of detail under it."""
    figure.suptitle(f"{title}\n", x=0.012, ha="left", fontsize=14, fontweight="bold", linespacing=1.5)
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.47 / height, detail, ha="left", va="top", fontsize=10, color=GREY)


def note(axes: Axes, x: float, y: float, text: str, colour: str = GREY, **options: Any) -> None:
    """A word beside a point of the data."""
    shift = options.pop("shift", (6, 0))
    settings = {"fontsize": 9, "va": "center", "annotation_clip": False, **options}
    axes.annotate(text, (x, y), xytext=shift, textcoords="offset points", color=colour, **settings)
