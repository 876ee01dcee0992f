"""From a recipe to a filled run folder: data, network, training, checkpoints, metrics, findings, pictures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from .. import monitor
from ..datasets.batches import where_it_is
from ..layer.norm import BatchNorm
from ..report import figures
from ..report.summary import summary
from ..report.views import Epoch, GradientFlow
from ..view.document import write_insight
from .checkpoint import Checkpoint, newest_checkpoint
from .console import TrainingProgress
from .data import direct_encoding
from .insight import Insight, look_inside
from .logs import Logs
from .networks import load_weights, make_network
from .ranks import Ranks, joined_ranks, restarted
from .recipe import Recipe, recipe_of_run
from .run_folder import RunFolder
from .seeding import keeping_generators, seed_all
from .sources import Split, load_data
from .trainer import Trainer
from .updates import loss_of

__all__ = ["Outcome", "evaluate_run", "resume", "train"]

LOOKED_AT = 64  # samples that the findings and the picture of gradients are made from


@dataclass(frozen=True)
class Outcome:
    """What a run has come to: its finished epochs, its summary, and whether it was interrupted."""

    history: tuple[Epoch, ...]
    summary: str
    interrupted: bool

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch in per cent; 0 without an epoch."""
        return 100 * self.history[-1].test_accuracy if self.history else 0.0


def train(recipe: Recipe, path: Path, *, quiet: bool = False, logs: Sequence[str | monitor.Sink] = ()) -> Outcome:
    """Train by a recipe, in this process or in those that `torchrun` has started, into the new folder `path`.

    The folder holds `recipe.toml`, `config.json`, a line an epoch in `metrics.jsonl`, the last checkpoints, the best
    weights in `best.safetensors`, those of the end in `model.safetensors`, `summary.txt`, `report.html` and pictures.

    - `logs`: where the numbers of each epoch go besides: names of `LOGS`, as `'tensorboard'` or `'wandb:project'`, and
      sinks of your own.

    A process that `torchrun --max-restarts` starts in the place of one that failed goes on from the last checkpoint in
    `path`, or begins anew there. That of another recipe is refused, as it was before.

    >>> import tempfile
    >>> recipe = Recipe(model="spikescope.train:digits_network", data="digits", T=2, epochs=1, batch_size=256)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     outcome = train(recipe, Path(place) / "run", quiet=True)
    >>> outcome.interrupted, len(outcome.history)
    (False, 1)
    """
    recipe.check_named("model", "data")
    if restarted() and _began(recipe, path):
        return resume(path, quiet=quiet, logs=logs)
    with joined_ranks(recipe.device) as ranks, ExitStack() as around:
        folder = around.enter_context(RunFolder(path)) if ranks.first else None
        data, net = _made(recipe)  # before anything is written: a wrong name leaves the folder to the next try
        if folder is not None:
            around.enter_context(folder.beginning())
            folder.write_recipe(recipe.toml())
            folder.write_config(_config(recipe, ranks))
        return _run(recipe, data, net, folder, ranks, None, quiet, logs)


def resume(path: Path, *, quiet: bool = False, logs: Sequence[str | monitor.Sink] = ()) -> Outcome:
    """Go on with the training in a run folder from its newest whole checkpoint, as though it had never stopped.

    FileNotFoundError if there is none: the run ended before its first, and is begun anew in another folder.
    """
    recipe = recipe_of_run(path)
    with joined_ranks(recipe.device) as ranks, ExitStack() as around:
        folder = around.enter_context(RunFolder.again(path)) if ranks.first else None
        found = newest_checkpoint(path)
        if found is None and not restarted():
            raise FileNotFoundError(f"{path} holds no checkpoint yet; begin the training anew, in another folder.")
        data, net = _made(recipe)  # before anything is written: epochs that cannot be done again are kept
        if folder is not None:
            rows = [] if found is None else found[1].head["progress"]["history"]
            if found is None:
                folder.write_config(_config(recipe, ranks))
            folder.keep_epochs([Epoch.from_row(row) for row in rows])
        return _run(recipe, data, net, folder, ranks, None if found is None else found[1], quiet, logs)


def evaluate_run(path: Path, *, device: str = "auto", weights: Path | None = None) -> tuple[Recipe, Epoch]:
    """Test the network of a run folder again: that of its best epoch, or other `weights`."""
    recipe = recipe_of_run(path)
    data = load_data(recipe.data, recipe.root, recipe.T, recipe.data_args)
    net = make_network(recipe, data)
    load_weights(weights or path / "best.safetensors", net)
    with joined_ranks(device) as ranks:
        loss, accuracy, layers = Trainer(net, data, recipe, ranks=ranks).test()
    return recipe, Epoch(0, float("nan"), float("nan"), loss, accuracy, 0.0, layers)


def _made(recipe: Recipe) -> tuple[Split, nn.Module]:
    data = load_data(recipe.data, recipe.root, recipe.T, recipe.data_args)
    with keeping_generators():
        seed_all(recipe.seed)
        return data, make_network(recipe, data)


def _run(
    recipe: Recipe,
    data: Split,
    net: nn.Module,
    folder: RunFolder | None,
    ranks: Ranks,
    found: Checkpoint | None,
    quiet: bool,
    wanted: Sequence[str | monitor.Sink],
) -> Outcome:
    if recipe.weights is not None and found is None:
        load_weights(Path(recipe.weights), net)
    place = folder.path if folder is not None else None
    trainer = Trainer(net, data, recipe, folder=place, ranks=ranks, checkpoint=found)
    history = [Epoch.from_row(row) for row in trainer.progress.history]
    done = trainer.progress.epoch * trainer.batches + trainer.progress.batch
    with ExitStack() as around:
        logs = None if folder is None else around.enter_context(Logs(wanted, folder.path, recipe.as_dict()))
        shown = None
        if folder is not None and not quiet:
            shown = around.enter_context(TrainingProgress(recipe.epochs * trainer.batches, done=done))

        def finished(epoch: Epoch) -> None:
            if folder is None:
                return
            folder.add_epoch(epoch)
            if logs is not None:
                logs.epoch(epoch, trainer.tested)
            if epoch.epoch == trainer.progress.best_epoch:
                folder.save_checkpoint(trainer.tested, "best", epoch=epoch.epoch, model=recipe.model)
            if shown is not None:
                shown.epoch(epoch)

        history = trainer.run(on_batch=shown.batch if shown else None, on_epoch=finished)
    text = summary(history)
    if folder is not None and history:
        folder.save_checkpoint(trainer.tested, "model", epoch=history[-1].epoch, model=recipe.model)
        with folder.afterwards("the look into the network"):
            seen = _look(trainer)
            text += f"\n\nHealth\n{seen.health}"
            write_insight(folder.path, seen.document)
            _save_pictures(folder, history, seen.flow)
        with folder.afterwards("report.html"):
            folder.report()
    if trainer.stopped:
        text += "\n\nStopped by a signal. `spikescope train --resume DIR` goes on from here."
    if folder is not None:
        with folder.afterwards("summary.txt"):
            folder.write_summary(text + "\n")
    return Outcome(tuple(history), text, trainer.stopped)


def _look(trainer: Trainer) -> Insight:
    """What a copy of the trained network does with some samples."""
    net, recipe, data = deepcopy(trainer.tested), trainer.recipe, trainer.data
    with keeping_generators():
        seed_all(recipe.seed)
        pairs = [data.train[index] for index in range(min(LOOKED_AT, len(data.train)))]
        device = trainer.ranks.device
        x = torch.stack([where_it_is(x) for x, _ in pairs]).to(device)
        y = torch.tensor([int(y) for _, y in pairs], device=device)
        x_seq = x.transpose(0, 1).contiguous() if data.sequences else direct_encoding(x, recipe.T)
        for module in net.modules():
            if isinstance(module, BatchNorm):
                module.synchronized = False  # the other processes do not look
        loss = partial(loss_of, target=y, recipe=recipe)
        return look_inside(net, x_seq, trainer.scores, loss, sequences=recipe.step_mode == "m")


def _save_pictures(folder: RunFolder, history: list[Epoch], flow: GradientFlow | None) -> None:
    """Draw what there is; without matplotlib there are no pictures, and the summary is complete all the same."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    folder.save_figure("learning_curves", figures.learning_curves(history))
    if history[-1].layers:
        folder.save_figure("firing_rates", figures.firing_rates(history))
    if flow is not None:
        folder.save_figure("gradient_flow", figures.gradient_flow(flow))


def _began(recipe: Recipe, path: Path) -> bool:
    """Whether a run by this recipe has begun in a folder; what else is there is not to be touched."""
    file = path / "recipe.toml"
    return file.is_file() and file.read_bytes() == recipe.toml().encode()


def _config(recipe: Recipe, ranks: Ranks) -> dict[str, object]:
    from .. import __version__

    return {
        "job": "train",
        "recipe": recipe.as_dict(),
        "device": ranks.device.type,
        "processes": ranks.count,
        "threads": torch.get_num_threads(),
        "versions": {"spikescope": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
