"""Draw results as one chart of speed-ups: python -m bench.chart [results.json] [image.png]; the newest by default."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

HERE = Path(__file__).parent
COLORS = {"spikingjelly": "#4477aa", "snntorch": "#ee6677", "norse": "#228833", "sinabs": "#ccbb44"}
NAMES = {"spikingjelly": "SpikingJelly", "snntorch": "snnTorch", "norse": "Norse", "sinabs": "sinabs"}
GROUPS = ("lif", "linear", "training", "gpu", "memory")
TIMES = "\N{MULTIPLICATION SIGN}"
INK, FAINT = "#222222", "#dddddd"
HEIGHT, GAP = 0.2, 0.42  # of a bar, and between two cases, in units of a case with five bars


def cases(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The rows that have a ratio to a rival, by case and measure."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for group in GROUPS:
        for row in rows:
            if row["group"] == group and row["ratio"] and row["rival"] in COLORS and "Bernoulli" not in row["case"]:
                found.setdefault((row["case"], row["measure"]), []).append(row)
    return found


def draw(axes: Axes, found: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """One bar a rival, cases from top to bottom."""
    y, ticks, labels = 0.0, [], []
    for (case, measure), rows in found.items():
        start = y
        for row in rows:
            axes.barh(y, row["ratio"] - 1, left=1, height=HEIGHT * 0.88, color=COLORS[row["rival"]], zorder=2)
            text = f"{row['ratio']:.0f}{TIMES}" if row["ratio"] >= 9.95 else f"{row['ratio']:.1f}{TIMES}"
            axes.annotate(
                text,
                (max(row["ratio"], 1), y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
            y += HEIGHT
        ticks.append((start + y - HEIGHT) / 2)
        what = "peak memory, forward + backward" if rows[0]["group"] == "memory" else f"time, {measure}"
        labels.append(f"{case.replace(' x ', f' {TIMES} ')}\n{what}")
        y += GAP - HEIGHT * 0.5
    axes.set_yticks(ticks, labels, fontsize=8, color=INK, linespacing=1.3)
    axes.set_ylim(y - GAP + HEIGHT * 0.6, -HEIGHT)


def dress(axes: Axes, found: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Axis, grid and legend."""
    ratios = [row["ratio"] for rows in found.values() for row in rows]
    axes.set_xscale("log")
    axes.set_xlim(min(1, *ratios) * 0.9, max(ratios) * 1.6)
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{t:g}{TIMES}" for t in ticks], fontsize=8.5, color=INK)
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.8, zorder=0)
    axes.axvline(1, color=INK, linewidth=1, zorder=3)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    shown = [name for name in COLORS if any(row["rival"] == name for rows in found.values() for row in rows)]
    handles = [Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in shown]
    axes.legend(
        handles,
        [NAMES[name] for name in shown],
        ncols=len(shown),
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        frameon=False,
        fontsize=9,
        handlelength=1,
        handleheight=1,
        columnspacing=1.4,
    )


def caption(report: dict[str, Any]) -> str:
    """Where the figures come from."""
    machine, versions = report["machine"], report["versions"]
    rivals = ", ".join(f"{NAMES[name]} {versions[name]}" for name in COLORS if name in versions)
    device = machine["gpu"] or machine["processor"]
    return (
        f"{device}, {machine['cores']} cores, float32, PyTorch {versions['torch']}, {report['date'][:10]}.\n"
        f"{rivals}. Same outputs, interleaved in one run, medians; make bench."
    )


def write(source: Path, target: Path = HERE.parent / "docs" / "images" / "bench.png") -> None:
    """Read results, write the image."""
    report = json.loads(source.read_text())
    found = cases(report["rows"])
    bars = sum(len(rows) for rows in found.values())
    if not bars:
        raise ValueError(f"{source} has no ratio to a rival, so there is nothing to draw; run the rows lif first.")
    height = 1.3 + bars * 0.17 + len(found) * 0.16
    figure, axes = plt.subplots(figsize=(9, height))
    draw(axes, found)
    dress(axes, found)
    title = "How many times less time or memory Spikescope takes"
    figure.text(0.015, 1 - 0.12 / height, title, fontsize=13, weight="bold", color=INK, va="top")
    figure.text(0.015, 0.12 / height, caption(report), fontsize=7.5, color="#666666", linespacing=1.5)
    figure.subplots_adjust(left=0.345, right=0.98, top=1 - 0.72 / height, bottom=0.72 / height)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=160)
    print(f"{target} from {source}")


if __name__ == "__main__":
    newest = sorted((HERE / "results").glob("*.json"))
    write(*(Path(given) for given in sys.argv[1:] or newest[-1:]))
