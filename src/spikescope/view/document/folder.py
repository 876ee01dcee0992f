"""The document of a run folder: from its files alone, whether the training ended or not."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import open_regular, write_whole
from ...report.metrics import read_metrics
from ...report.views import Epoch
from .check import misfit
from .parts import course_of, rate_course_of, rate_of
from .privacy import told
from .shape import VERSION, Document, Layer, empty, number, value
from .text import json_of

__all__ = ["INSIGHT", "of_folder", "write_insight"]

INSIGHT = "insight.json"
"""The file of a run folder with what was seen of its network at the end."""

SEEN = (
    "judged",
    "findings",
    "unjudged",
    "layers",
    "courses",
    "image",
    "rasters",
    "potentials",
    "flow",
    "energy",
    "notes",
)
"""The parts of a document that the files of a run do not hold otherwise."""

AT_MOST = 64 << 20
"""Bytes of a file that are read."""


def write_insight(folder: Path, found: Document) -> None:
    """Keep what was seen of a network at the end of its run, so that a report can be made of the folder at any time."""
    held: Mapping[str, Any] = found
    write_whole(folder / INSIGHT, json_of({"version": VERSION} | {name: held[name] for name in SEEN}) + "\n")


def of_folder(path: Path, places: bool = False) -> Document:
    """The document of the folder of a run; a run that goes on, or was killed, has what it has.

    A file that is damaged is a ValueError that names it.
    """
    config = _read(path / "config.json")
    found = empty("run", _title(config))
    history: list[Epoch] = []
    if (path / "metrics.jsonl").exists():
        with warnings.catch_warnings(record=True) as told_of:
            warnings.simplefilter("always", RuntimeWarning)
            history = read_metrics(path / "metrics.jsonl")
        found["notes"] += ["The last epoch was not written to its end, and is left out." for _ in told_of]
    _add_history(found, history)
    if (path / INSIGHT).exists():
        _add_insight(found, _read(path / INSIGHT), path / INSIGHT)
    elif history:
        found["unjudged"].append("the network: the run has not come to its end, where it is looked at")
    found["facts"] = _facts(found, history)
    kept = {key: held for key, held in config.items() if key not in ("versions", "job")}
    found["configuration"] = told(kept, places)
    versions = config.get("versions")
    found["versions"] = told(versions, places) if isinstance(versions, dict) else []
    return found


def _read(path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        held = file.read(AT_MOST + 1)
    try:
        found = json.loads(held) if len(held) <= AT_MOST else None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: it is not JSON. Write the report of another run, or delete the file."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} is damaged: it is not a JSON object. Write the report of another run, or delete the file."
        )
    return found


def _title(config: Mapping[str, Any]) -> str:
    recipe = config.get("recipe")
    if isinstance(recipe, dict):
        return f"{recipe.get('model', 'a network')} on {recipe.get('data', 'data')}"
    network = config.get("network")
    neuron = network.get("neuron", "") if isinstance(network, dict) else ""
    return f"Scanned digits, {neuron}" if config.get("job") == "demo" else "A training"


def _add_history(found: Document, history: Sequence[Epoch]) -> None:
    if not history:
        return
    epochs = [held.epoch for held in history]
    loss = {"train": [held.train_loss for held in history], "test": [held.test_loss for held in history]}
    right = {"train": [held.train_accuracy for held in history], "test": [held.test_accuracy for held in history]}
    found["courses"] += [
        course_of("Loss", "epoch", "mean over samples", epochs, loss),
        course_of("Accuracy", "epoch", "right answers", epochs, right, share=True),
    ]
    names = [layer.name for layer in history[-1].layers]
    rows = [{layer.name: layer for layer in held.layers} for held in history]
    rates, silent = (
        {name: [getattr(row.get(name), what, float("nan")) for row in rows] for name in names}
        for what in ("rate", "silent")
    )
    found["courses"] += [
        rate_course_of("Firing rate", "epoch", "mean over the test samples", epochs, rates),
        course_of("Silent neurons", "epoch", "neurons that no test sample made fire", epochs, silent, share=True),
    ]
    found["layers"] = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "role": "neurons",
            "neurons": layer.neurons,
            "rate": number(layer.rate),
            "silent": number(layer.silent),
        }
        for layer in history[-1].layers
    ]


def _add_insight(found: Document, seen: dict[str, Any], path: Path) -> None:
    """What was seen at the end; the activity of layers is that on the test samples, where it was measured."""
    if seen.get("version") != VERSION or any(name not in seen for name in SEEN):
        raise ValueError(f"{path} is of another version, or damaged; delete it, and the report is made without it.")
    held: Mapping[str, Any] = empty("run", "")
    if (wrong := misfit({**held, **{name: seen[name] for name in SEEN}}, Document, "data")) is not None:
        raise ValueError(f"{path} is damaged: {wrong}. Delete it, and the report is made without it.")
    tested = {row["name"]: row for row in found["layers"]}
    layers: list[Layer] = seen["layers"]
    for row in layers:
        row.update(tested.get(row["name"], {}))
    known = {row["name"] for row in layers}
    for name in SEEN:
        if name in ("courses", "notes"):
            found[name] += seen[name]  # type: ignore[literal-required]
        elif name != "layers":
            found[name] = seen[name]  # type: ignore[literal-required]
    found["layers"] = layers + [row for name, row in tested.items() if name not in known]


def _facts(found: Document, history: Sequence[Epoch]) -> list[list[str]]:
    if not history:
        return [["epochs", "none finished"]]
    last = history[-1]
    seconds = sum(held.seconds for held in history)
    facts = [
        ["test accuracy", f"{100 * last.test_accuracy:.2f} %"],
        ["training", f"{len(history)} epoch{'s' * (len(history) > 1)} in {seconds:.1f} s"],
    ]
    neurons = sum(layer.neurons for layer in last.layers)
    parameters = sum(row.get("parameters", 0) for row in found["layers"])
    rate = sum(layer.rate * layer.neurons for layer in last.layers) / max(1, neurons)
    facts += [["parameters", f"{parameters:,}"]] if parameters else []
    facts += [["neurons", f"{neurons:,}"], ["mean firing rate", rate_of(rate)]]
    energy = found["energy"]
    if energy is not None:
        facts.append(["energy without spikes / with", f"{value(energy['honest']):.2f}"])
    return facts
