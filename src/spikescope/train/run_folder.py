"""The folder of one run: configuration, metrics, checkpoint, pictures and summary."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from ..errors import missing_extra
from ..files import FolderLock, append_line, claim_folder, drop_drafts, open_regular, write_whole
from ..report.metrics import read_metrics
from ..report.views import Epoch
from ..view import report
from ..warn import warn
from ..weights import check_sum, load_whole
from .checkpoint import parts_of_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RunFolder", "load_checkpoint", "read_metrics"]

ASKED = ("recipe.toml", "config.json")
"""What a run folder holds before a training begins."""


class RunFolder:
    """An empty folder at first, made if need be; its files are whole at any moment, and no other run writes to it.

    - `config.json`: what was asked for.
    - `metrics.jsonl`: one JSON object per epoch.
    - `model.safetensors`: the weights after the last finished epoch.
    - `insight.json`, `report.html`, `summary.txt` and the pictures, written at the end.

    `RunFolder.again(path)` is the folder of a run that is taken up again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        drop_drafts(path)
        self.path = claim_folder(path)
        self._lock = FolderLock(self.path)
        claim_folder(self.path)  # another run may have begun and ended in between

    @classmethod
    def again(cls, path: str | os.PathLike[str]) -> Self:
        """The folder of a run that has begun already, for its one writer; OutputError if another is at it."""
        made = cls.__new__(cls)
        made.path = Path(path)
        made._lock = FolderLock(made.path)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another run write to the folder; what is in it stays."""
        self._lock.release()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.json`."""
        write_whole(self.path / "config.json", json.dumps(config, indent=2) + "\n")

    def add_epoch(self, epoch: Epoch) -> None:
        """Append a line to `metrics.jsonl`; it is on its way to the disk when this returns."""
        append_line(self.path / "metrics.jsonl", json.dumps(epoch.row()))

    def keep_epochs(self, history: Iterable[Epoch]) -> None:
        """Write `metrics.jsonl` anew with these epochs alone, as a run does that goes on from a checkpoint."""
        write_whole(self.path / "metrics.jsonl", "".join(f"{json.dumps(epoch.row())}\n" for epoch in history))

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Around a training: an error before anything came of it leaves the folder to the next try."""
        try:
            yield
        except Exception:
            if {entry.name for entry in self.path.iterdir()} <= set(ASKED):
                for name in ASKED:
                    (self.path / name).unlink(missing_ok=True)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a file of text."""
        write_whole(self.path / name, text)

    def write_recipe(self, text: str) -> None:
        """Write `recipe.toml`."""
        self.write_text("recipe.toml", text)

    def save_checkpoint(self, net: nn.Module, name: str = "model", **notes: object) -> None:
        """Write the weights of `net` to `name`.safetensors, with `notes` as its metadata."""
        told = {name: str(note) for name, note in notes.items()}
        parts = parts_of_file(net.state_dict(), told, json.dumps(told, sort_keys=True))
        write_whole(self.path / f"{name}.safetensors", parts)

    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a picture as `name`.png."""
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        write_whole(self.path / f"{name}.png", picture.getvalue())

    def report(self, to: str | os.PathLike[str] | None = None, second: Any = None, **options: Any) -> Path:
        """Write one page that shows the run so far, `report.html` in the folder unless told else: see `view.report`."""
        return report(self.path, second, self.path / "report.html" if to is None else to, **options)

    def write_summary(self, text: str) -> None:
        """Write `summary.txt`."""
        self.write_text("summary.txt", text)

    @contextmanager
    def afterwards(self, what: str) -> Iterator[None]:
        """Around what is done when the training is over: an error there is warned of, and takes nothing from it."""
        try:
            yield
        except Exception as error:
            saved = (self.path / "model.safetensors").exists()
            done = f"done and its weights are in {self.path}" if saved else "over before its first epoch was"
            said = f"{type(error).__name__}: {error}".rstrip(". ")
            warn(
                f"The training is {done}, but {what} failed: {said}. "
                f"`spikescope report {self.path}` writes a report of what is there."
            )


def load_checkpoint(path: str | os.PathLike[str], net: nn.Module) -> dict[str, str]:
    """Load the weights in a `model.safetensors` into `net`, which must have the same layers; returns the notes.

    A file that is damaged, or of another network, is a ValueError that names it, and leaves `net` as it was.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise missing_extra("safetensors", "train", "Checkpoints") from None
    try:
        with open_regular(path), safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            notes = dict(file.metadata() or {})
        told = {name: note for name, note in notes.items() if name != "checksum"}
        check_sum(tensors, notes, json.dumps(told, sort_keys=True))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} holds no weights, or is damaged: {error}.") from error
    load_whole(net, tensors, net.state_dict(), str(path))
    return told
