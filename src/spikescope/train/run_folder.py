"""The folder of one run: configuration, metrics, checkpoint, pictures and summary."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import missing_extra
from ..files import OutputError, claim_folder, write_whole
from ..report.views import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RunFolder", "load_checkpoint", "read_metrics"]


class RunFolder:
    """An empty folder at first, made if need be; every file in it is whole at any moment.

    - `config.json`: what was asked for.
    - `metrics.jsonl`: one JSON object per epoch.
    - `model.safetensors`: the weights after the last finished epoch.
    - `summary.txt` and the pictures, written at the end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = claim_folder(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.json`."""
        write_whole(self.path / "config.json", json.dumps(config, indent=2) + "\n")

    def add_epoch(self, epoch: Epoch) -> None:
        """Append a line to `metrics.jsonl`; it is on its way to the disk when this returns."""
        target = self.path / "metrics.jsonl"
        try:
            with target.open("a", encoding="utf-8") as file:
                file.write(json.dumps(epoch.row()) + "\n")
        except OSError as error:
            raise OutputError(f"{target} could not be written: {error.strerror or error}.") from error

    def save_checkpoint(self, net: nn.Module, **notes: object) -> None:
        """Write the weights of `net` to `model.safetensors`, with `notes` as its metadata."""
        try:
            from safetensors.torch import save
        except ImportError:
            raise missing_extra("safetensors", "train", "Checkpoints") from None
        tensors = {name: held.detach().cpu().contiguous().clone() for name, held in net.state_dict().items()}
        content = save(tensors, metadata={name: str(note) for name, note in notes.items()})
        write_whole(self.path / "model.safetensors", content)

    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a picture as `name`.png."""
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        write_whole(self.path / f"{name}.png", picture.getvalue())

    def write_summary(self, text: str) -> None:
        """Write `summary.txt`."""
        write_whole(self.path / "summary.txt", text)


def load_checkpoint(path: str | os.PathLike[str], net: nn.Module) -> dict[str, str]:
    """Load the weights in a `model.safetensors` into `net`, which must have the same layers; returns the notes."""
    try:
        from safetensors import safe_open
    except ImportError:
        raise missing_extra("safetensors", "train", "Checkpoints") from None
    with safe_open(path, framework="pt") as file:
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # not a mapping
        return dict(file.metadata() or {})


def read_metrics(path: str | os.PathLike[str]) -> list[Epoch]:
    """The epochs in a `metrics.jsonl`."""
    return [Epoch.from_row(json.loads(line)) for line in Path(path).read_text(encoding="utf-8").splitlines()]
