"""The main job: train a spiking network on the digits, watch its neurons, and leave a run folder."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ...errors import missing_extra
from ...report import figures
from ...report.summary import summary, work_table
from ...report.views import Epoch, GradientFlow, SampleView
from ...view.document import show_view, write_insight
from ..console import TrainingProgress
from ..data import Dataset, direct_encoding, shift_images
from ..insight import Insight, look_inside
from ..observe import view_sample
from ..program import Outcome
from ..run_folder import RunFolder, load_checkpoint
from ..work import count_work
from .digits import digits_network, load_digits
from .loop import Settings, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_extras", "choose_device", "run_demo"]

SHIFTED_SHARE = 0.3
INSIGHT_SAMPLES = 256  # for the operations per sample and the health of the network
VIEW_FACTOR = 4  # the pictures show the sample this many times longer than the training does

_EXTRAS = (
    ("sklearn", "scikit-learn", "train", "The digits"),
    ("safetensors", "safetensors", "train", "Checkpoints"),
    ("rich", "rich", "train", "Progress bars"),
    ("matplotlib", "matplotlib", "report", "Pictures"),
)


def check_extras() -> None:
    """Refuse to begin without the optional packages that the demo will need at its end."""
    for module, package, extra, purpose in _EXTRAS:
        if find_spec(module) is None:
            raise missing_extra(package, extra, purpose)


def choose_device(name: str) -> torch.device:
    """The device called `name`; `'auto'` is the GPU where there is one.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device that PyTorch can use; choose the device 'cpu' or 'auto'.")
    return torch.device(name)


def run_demo(
    folder: RunFolder,
    settings: Settings,
    *,
    neuron: str = "LIFNode",
    device: torch.device | str = "cpu",
    quiet: bool = False,
    target: float = 0.0,
    dataset: Dataset | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Outcome:
    """Train on the digits (or another `dataset` of 8x8 images in 10 classes) and fill the folder of the run.

    - `target`: an accuracy in per cent that the pictures mark.
    - `on_epoch`: called after each epoch, when its checkpoint and metrics are written.

    An interrupt (KeyboardInterrupt) ends the training; the folder then holds the finished epochs.
    """
    check_extras()
    dataset = (load_digits() if dataset is None else dataset).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = digits_network(neuron).to(device)
    folder.write_config(_config(settings, neuron, device, dataset))
    history, interrupted = _trained(net, dataset, settings, folder, neuron, quiet, on_epoch)
    if history and interrupted:
        load_checkpoint(folder.path / "model.safetensors", net)
    text = summary(history)
    if history:
        with folder.afterwards("the look into the network"):
            seen, work = _insight(net, dataset, settings), _work(net, dataset, settings)
            view = _view(net, dataset, settings)
            text += f"\n\n{work}\n\nHealth\n{seen.health}"
            seen.document["rasters"], seen.document["potentials"] = [], []  # those of the sample with its image instead
            show_view(seen.document, view, f"test sample 0, a {view.label}, taken for a {view.answer}")
            write_insight(folder.path, seen.document)
            _save_pictures(folder, view, history, seen.flow, target)
        with folder.afterwards("report.html"):
            folder.report()
    text += "\nInterrupted before the end." if interrupted else ""
    with folder.afterwards("summary.txt"):
        folder.write_summary(text + "\n")
    return Outcome(tuple(history), text, interrupted)


def _trained(
    net: nn.Module,
    dataset: Dataset,
    settings: Settings,
    folder: RunFolder,
    neuron: str,
    quiet: bool,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[list[Epoch], bool]:
    """The finished epochs, each written when it is over, and whether an interrupt came before the last."""
    history: list[Epoch] = []
    updates = settings.epochs * -(-len(dataset.x_train) // settings.batch_size)
    with nullcontext() if quiet else TrainingProgress(updates) as progress:

        def finished(epoch: Epoch) -> None:
            folder.save_checkpoint(net, network="digits_network", neuron=neuron, epoch=epoch.epoch)
            folder.add_epoch(epoch)
            history.append(epoch)
            for call in (progress.epoch if progress else None, on_epoch):
                if call is not None:
                    call(epoch)

        on_batch, augment = progress.batch if progress else None, shift_images(SHIFTED_SHARE)
        try:
            fit(net, dataset, settings, augment=augment, on_batch=on_batch, on_epoch=finished)
        except KeyboardInterrupt:
            return history, True
    return history, False


def _insight(net: nn.Module, dataset: Dataset, settings: Settings) -> Insight:
    """What the monitors see of the trained network: of a copy, whose normalisation learns from what it sees."""
    x, y = dataset.x_train[:INSIGHT_SAMPLES], dataset.y_train[:INSIGHT_SAMPLES]
    x_seq = direct_encoding(x, settings.steps)
    return look_inside(deepcopy(net), x_seq, lambda net, x: net(x), lambda scores: cross_entropy(scores.mean(0), y))


def _work(net: nn.Module, dataset: Dataset, settings: Settings) -> str:
    """What the trained network spends on a test sample, as text."""
    return work_table(count_work(net, dataset.x_test[:INSIGHT_SAMPLES], settings.steps))


def _view(net: nn.Module, dataset: Dataset, settings: Settings) -> SampleView:
    """The first sample of the test part, for longer than in training."""
    steps, label = VIEW_FACTOR * settings.steps, int(dataset.y_test[0])
    return view_sample(net, dataset.x_test[0], label, steps=steps, trained_steps=settings.steps)


def _config(settings: Settings, neuron: str, device: torch.device | str, dataset: Dataset) -> dict[str, object]:
    from ... import __version__

    return {
        "job": "demo",
        "settings": asdict(settings),
        "network": {"builder": "spikescope.train.digits_network", "neuron": neuron},
        "augmentation": {"shifted_share": SHIFTED_SHARE},
        "samples": {"train": len(dataset.x_train), "test": len(dataset.x_test)},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": {"spikescope": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def _save_pictures(
    folder: RunFolder,
    view: SampleView,
    history: list[Epoch],
    flow: GradientFlow | None,
    target: float,
) -> None:
    """Draw what there is."""
    pictures: dict[str, Callable[[], Figure]] = {
        "learning_curves": partial(figures.learning_curves, history, target),
        "firing_rates": partial(figures.firing_rates, history),
        "spike_raster": partial(figures.spike_raster, view),
        "membrane_traces": partial(figures.membrane_traces, view),
        **({} if flow is None else {"gradient_flow": partial(figures.gradient_flow, flow)}),
        "overview": partial(figures.overview, history, view, target, flow),
    }
    for name, draw in pictures.items():
        folder.save_figure(name, draw())
