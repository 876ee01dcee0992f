"""From a trained network of ReLUs to a folder with one of spikes: compared layer by layer, and loaded again by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..ann2snn import AccuracyOverTime, Comparison, Converter, accuracy_over_time, compare
from ..ann2snn.tracing import on_device
from ..datasets.batches import where_it_is
from ..errors import dims
from ..files import open_regular
from ..functional import set_step_mode
from ..neuron import Neuron
from .networks import build_network, filled_arguments, load_weights, make_network
from .ranks import chosen_device
from .recipe import Recipe
from .run_folder import RunFolder
from .seeding import Order, SeededSamples, keeping_generators, seed_all
from .sources import Split, load_data

__all__ = ["Conversion", "Converted", "convert", "load_converted"]

_LARGEST = 1 << 26  # numbers of an input that is made only to follow the network
_FILE = "snn.safetensors"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How a trained network is converted and tried.

    - `T`: time steps that each image is held for in the test.
    - `mode`, `momentum`, `fuse`: of `ann2snn.Converter`.
    - `samples`: of the training part, to measure activations on. `tested`: of the test part, 0 for all of it.
    """

    T: int = 64
    mode: str | float = "99.9%"
    momentum: float | None = None
    fuse: bool = True
    samples: int = 1024
    tested: int = 0
    batch_size: int = 64
    device: str = "auto"


@dataclass(frozen=True)
class Converted:
    """What a conversion has come to: accuracy over time beside that of before, the layers, and the summary."""

    course: AccuracyOverTime
    layers: Comparison
    summary: str

    @property
    def lost(self) -> float:
        """Points of per cent that the accuracy is below that of before after the last step."""
        return 100 * ((self.course.ann or 0.0) - self.course.accuracy[-1])


def convert(recipe: Recipe, weights: Path | None, path: Path, how: Conversion = Conversion()) -> Converted:
    """Convert the network of a recipe with its trained weights into the new folder `path`, and try it on the test part.

    - `recipe`: its `model`, `model_args`, `data`, `root`, `data_args` and `seed` count.
    - `weights`: a file that `load_weights` takes; None for a function that gives a trained network itself.

    The folder holds the network in `snn.safetensors`, what `load_converted` needs in `config.json`, all numbers in
    `results.json`, `summary.txt`, and pictures. ValueError names each part of a network that cannot be converted.

    >>> import tempfile
    >>> recipe = Recipe(model="MNISTNet", model_args={"channels": 2, "hidden": 8, "neuron": "ReLU"}, data="digits")
    >>> with tempfile.TemporaryDirectory() as place:
    ...     convert(recipe, None, Path(place) / "snn")
    Traceback (most recent call last):
    ValueError: MNISTNet comes with random weights; give a file with trained ones (--weights, or the folder of a run).
    """
    recipe.check_named("model", "data")
    if weights is None and ":" not in recipe.model:
        raise ValueError(
            f"{recipe.model} comes with random weights; give a file with trained ones (--weights, or the folder of a "
            "run)."
        )
    data = load_data(recipe.data, recipe.root, recipe.T, recipe.data_args)
    if data.sequences:
        raise ValueError(
            f"data {recipe.data!r} gives sequences of frames, but a converted network reads one image, held for all "
            "steps: rates take the place of activations. Train spikes on sequences directly: spikescope train."
        )
    with keeping_generators():
        seed_all(recipe.seed)
        ann = make_network(recipe, data)
        set_step_mode(ann, "s")  # it sees an image, without time
        if weights is not None:
            load_weights(weights, ann)
        _check_without_spikes(ann)
        _check_runs(ann, data, recipe.data)
        with RunFolder(path) as folder:
            return _converted(ann, data, recipe, how, folder)


def load_converted(path: Path, ann: nn.Module | None = None) -> nn.Module:
    """The network of spikes in a folder of `convert`, in eval and `step_mode='s'`.

    - `ann`: of the same layers as the one that was converted; its weights do not matter. It is needed where that was
      made by a function of your own, which is not run because a file says so.

    ValueError if the folder holds no such network, or that of another `ann`.
    """
    file = path / "config.json"
    with open_regular(file) as opened:
        content = opened.read()
    try:
        held = json.loads(content)
        job, name, arguments, shape = (held[key] for key in ("job", "model", "arguments", "input"))
        fuse = held["how"]["fuse"]
        sizes = [size for size in shape if type(size) is int and size > 0]
        if job != "convert" or len(sizes) != len(shape) or math.prod(sizes) > _LARGEST:
            raise ValueError("it is of another kind")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not of a conversion: {error}. `spikescope convert` makes such folders.") from error
    if ann is None and ":" in str(name):
        raise ValueError(
            f"The network in {path} was made by {name}, a function of your own. Call it, and give what it makes: "
            f"load_converted(path, {str(name).partition(':')[2]}(...)); it was called with {arguments}."
        )
    with keeping_generators():
        made = build_network(name, arguments) if ann is None else ann
        snn = Converter(torch.zeros(shape, device="cpu"), fuse_flag=bool(fuse)).structure(made)
    load_weights(path / _FILE, snn)
    return snn


def _converted(ann: nn.Module, data: Split, recipe: Recipe, how: Conversion, folder: RunFolder) -> Converted:
    device = chosen_device(how.device)
    ann = ann.to(device).eval()
    arguments = filled_arguments(recipe, data)
    shape = [1, *where_it_is(data.train[0][0]).shape]
    folder.write_config(
        {"job": "convert", "model": recipe.model, "arguments": arguments, "input": shape, "how": asdict(how)}
        | {"data": recipe.data, "samples": {"train": len(data.train), "test": len(data.test)}}
    )
    some = _batches(data.train, how.batch_size, recipe.seed, how.samples, shuffled=True)
    tested = partial(_batches, data.test, how.batch_size, recipe.seed, how.tested, shuffled=False)  # too many to keep
    snn = Converter(some, mode=how.mode, momentum=how.momentum, fuse_flag=how.fuse)(ann)
    folder.save_checkpoint(snn, _FILE.partition(".")[0], model=recipe.model)
    course = accuracy_over_time(snn, tested(), how.T, ann)
    layers = compare(ann, snn, next(iter(tested()))[0], how.T)
    made = Converted(course, layers, _summary(recipe, course, layers))
    folder.write_text("results.json", json.dumps(_numbers(made), indent=2) + "\n")
    folder.write_text("summary.txt", made.summary + "\n")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return made
    folder.save_figure("accuracy", course.plot())
    folder.save_figure("layers", layers.plot())
    return made


def _batches(samples: Any, size: int, seed: int, count: int, *, shuffled: bool) -> Iterable[Any]:
    """Batches of `count` samples together, or of all for 0; with fewer than that, of all of them."""
    number = min(count or len(samples), len(samples))
    chosen = next(iter(Order(len(samples), number, shuffled=shuffled, seed=seed)))
    batches = [chosen[at : at + size] for at in range(0, number, size)]
    return DataLoader(SeededSamples(samples, seed), batch_sampler=batches)


def _check_without_spikes(ann: nn.Module) -> None:
    spiking = [name for name, module in ann.named_modules() if isinstance(module, Neuron)]
    if spiking:
        raise ValueError(
            f"The network has {len(spiking)} layers of spiking neurons already, the first is {spiking[0]!r}. What is "
            "converted is a trained network of ReLUs: train the twin of a model with --model-arg neuron=ReLU -T 1."
        )


def _check_runs(ann: nn.Module, data: Split, name: str) -> None:
    """Try one sample, so that what does not fit is told as that."""
    (x,) = on_device([where_it_is(data.test[0][0]).unsqueeze(0)], ann)
    training = ann.training
    try:
        with torch.no_grad():
            ann.eval()(x)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"The network cannot run on the samples of data {name!r}, {dims(x.shape[1:])}: {error}"
        ) from error
    finally:
        ann.train(training)


def _summary(recipe: Recipe, course: AccuracyOverTime, layers: Comparison) -> str:
    worst = max(layers, key=lambda name: layers[name].error)
    before, after = 100 * (course.ann or 0.0), 100 * course.accuracy[-1]
    return "\n".join(
        [
            f"{recipe.model} on {recipe.data}, {course.samples} samples of its test part",
            f"Accuracy           {before:.2f} % before, {after:.2f} % with spikes after {layers.steps} steps",
            f"Spikes             {course.spikes[-1]:.1f} a sample",
            f"Largest error      {100 * layers[worst].error:.2f} % in {worst}",
            "",
            course.table(),
            "",
            f"Mean outputs after {layers.steps} steps beside activations",
            layers.table(),
        ]
    )


def _numbers(made: Converted) -> dict[str, Any]:
    """All numbers as plain values."""
    layers = [
        {
            "name": name,
            "scale": held.scale.mean().item(),
            "activation": held.activation.mean().item(),
            "rate": held.rate.mean().item(),
            "error": held.error,
            "clipped": held.clipped,
        }
        for name, held in made.layers.items()
    ]
    course = made.course
    return {
        "samples": course.samples,
        "ann_accuracy": course.ann,
        "accuracy": list(course.accuracy),
        "spikes_per_sample": list(course.spikes),
        "layers": layers,
    }
