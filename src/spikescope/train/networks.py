"""The network that a recipe names, made to fit its data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import models, neuron, surrogate
from ..datasets.batches import where_it_is
from ..errors import UnknownNameError, did_you_mean
from ..files import open_regular
from ..functional import set_step_mode
from ..weights import load_whole, read_weights, state_of, without_prefixes
from .checkpoint import read_checkpoint
from .recipe import Recipe
from .run_folder import load_checkpoint
from .sources import Split, by_import

__all__ = ["build_network", "filled_arguments", "load_weights", "make_network"]

_OF_ONE_SIZE = ("parametric_lif_net",)  # families whose networks have the classes of their data set
_NEURONS: dict[str, Any] = {**neuron.registry, "ReLU": models.without_spikes}
_KINDS = {"neuron": _NEURONS, "spiking_neuron": _NEURONS}


def make_network(recipe: Recipe, data: Split) -> nn.Module:
    """The network of a recipe in its step mode, with as many classes as the data has; weights follow from the seed.

    A neuron or a surrogate may be given by its name: `model_args={"neuron": "LIFNode", "surrogate_function": "ATan"}`,
    and `"neuron": "ReLU"` makes the twin without spikes. An argument that the function has and the recipe leaves out is
    filled in: `num_classes`, `T`, `in_channels`.

    >>> split = spikescope.train.load_data("digits", None, 4, {})
    >>> make_network(Recipe(model="spikescope.train:digits_network", data="digits"), split).readout
    Linear(in_features=256, out_features=10, bias=True)
    """
    net = build_network(recipe.model, filled_arguments(recipe, data))
    set_step_mode(net, recipe.step_mode)
    if ":" not in recipe.model:
        _check_channels(recipe.model, net, where_it_is(data.train[0][0]))
    return net


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network by its name, or by that of a function of your own, from plain values.

    >>> build_network("CIFAR10Net", {"channels": 8, "neuron": "ReLU"}).conv_fc[2]
    ReLU()
    """
    build, _ = _function(name)
    made = {key: _named(key, held) for key, held in arguments.items()}
    try:
        net = build(**made)
    except TypeError as error:
        words = ", ".join(f"{key}={held!r}" for key, held in made.items())
        raise TypeError(f"{name} cannot be made with {words}: {error}") from error
    except RuntimeError as error:  # of PyTorch, such as of a size below 0
        words = ", ".join(f"{key}={held!r}" for key, held in made.items())
        raise ValueError(f"{name} cannot be made with {words}: {error}") from error
    if not isinstance(net, nn.Module):
        raise TypeError(f"{name} must give a torch.nn.Module, but gave {net!r}.")
    return net


def filled_arguments(recipe: Recipe, data: Split) -> dict[str, Any]:
    """The arguments of the network of a recipe, plain values, with what follows from the data."""
    _, known = _function(recipe.model)
    arguments = dict(recipe.model_args)
    open_ended = any(held.kind is inspect.Parameter.VAR_KEYWORD for held in known.values())
    sized = ":" in recipe.model or models.VARIANTS[recipe.model].family in _OF_ONE_SIZE
    sample = where_it_is(data.train[0][0])
    channels = sample.shape[-3] if sample.dim() >= 3 else None
    filled = {"num_classes": data.classes, "T": recipe.T, "in_channels": channels}
    for name, held in filled.items():
        if (
            held is not None
            and name not in arguments
            and (name in known or (name == "num_classes" and open_ended and not sized))
        ):
            arguments[name] = held
    return arguments


def _function(name: str) -> tuple[Callable[..., Any], Mapping[str, inspect.Parameter]]:
    """What makes the network called `name`, and the parameters that it has."""
    if ":" in name:
        build = by_import(name, "model")
        return build, inspect.signature(build).parameters
    if name not in models.VARIANTS:
        raise UnknownNameError(
            f"There is no model {name!r}.{did_you_mean(name, models.VARIANTS)} "
            "`spikescope train --list-models` has the names; module:function names a function of your own."
        )
    return partial(models.create, name), inspect.signature(models.VARIANTS[name].function(name)).parameters


def load_weights(path: Path, net: nn.Module) -> None:
    """Load weights into `net`: a `.safetensors` of a run, a checkpoint of a training, or a `.pth` with a state_dict.

    ValueError if it is not a file, or a damaged one, or holds another network; then `net` stays as it was.
    """
    if path.suffix == ".safetensors":
        try:
            load_checkpoint(path, net)
        except ValueError:
            if not path.name.startswith("checkpoint-"):
                raise
            read_checkpoint(path).load_module("net", net)
        return
    open_regular(path).close()
    own = net.state_dict()
    _, state = state_of(read_weights(path), str(path), None, own)
    renamed = without_prefixes(state, own)
    load_whole(net, {renamed.get(name, name): held for name, held in state.items()}, own, str(path))


def _named(name: str, held: Any) -> Any:
    """The class that a text stands for, where the argument is a neuron or a surrogate."""
    if not isinstance(held, str):
        return held
    if name == "surrogate_function":
        return _look_up(surrogate.registry, held, "surrogate")()
    return _look_up(_KINDS[name], held, "neuron") if name in _KINDS else held


def _look_up(registry: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in registry:
        raise UnknownNameError(f"There is no {what} {name!r}.{did_you_mean(name, registry)}")
    return registry[name]


def _check_channels(name: str, net: nn.Module, sample: Tensor) -> None:
    """Refuse images of other channels than the first convolution takes, which PyTorch would say in the middle."""
    first = next((held for held in net.modules() if isinstance(held, nn.Conv2d)), None)
    if first is not None and sample.dim() >= 3 and first.in_channels != sample.shape[-3]:
        raise ValueError(
            f"{name} takes images of {first.in_channels} channels, but the data has {sample.shape[-3]}. Choose a model "
            "that is made for such data (models.VARIANTS has the images), or write module:function with a first "
            "convolution of your own."
        )
