"""What each operation of a network does to a mean over time: the table of what can be converted.

The mean over time goes through a weighted sum (and a constant) unchanged, so that such operations stay as they are. A
ReLU becomes a neuron and a maximum a gate. Everything else is refused: the mean of f(x) is not f of the mean.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from ..layer import Dropout, Dropout2d, SyncBatchNorm, VotingLayer

__all__ = ["DROPOUTS", "NORMS", "Refusal", "Role", "function_name", "role_of"]

MAX_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
SUMS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.ChannelShuffle, nn.Identity, nn.Flatten, nn.Unflatten, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    VotingLayer.torch_class,
)

_PLAIN = ("contiguous", "clone", "neg", "double", "float", "half")
_ADDED = ("add", "sub", "subtract")
_MULTIPLIED = ("matmul", "mul", "multiply")
_OF_FIRST = (  # a weighted sum of the first argument, if the others are constant
    *("div", "divide", "true_divide", "truediv", "pad", "interpolate", "pixel_shuffle", "pixel_unshuffle"),
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
)
_SHAPED = ("reshape", "view")
_SHAPES = ("dim", "size")
_DROPPED = ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")
_CUT = ("chunk", "split")  # these give several tensors
_AXES: dict[str, tuple[tuple[int, str, Any], ...]] = {  # where the axes stand among the arguments, and their defaults
    "cat": ((1, "dim", 0),),
    "concat": ((1, "dim", 0),),
    "stack": ((1, "dim", 0),),
    "chunk": ((2, "dim", 0),),
    "split": ((2, "dim", 0),),
    "flatten": ((1, "start_dim", 0),),
    "unflatten": ((1, "dim", None),),
    "mean": ((1, "dim", None),),
    "sum": ((1, "dim", None),),
    "squeeze": ((1, "dim", None),),
    "unsqueeze": ((1, "dim", None),),
    "transpose": ((1, "dim0", None), (2, "dim1", None)),
}
_POOLED: dict[str, type[nn.Module]] = {
    **{f"max_pool{n}d": pool for n, pool in enumerate(MAX_POOLS[:3], 1)},
    **{f"adaptive_max_pool{n}d": pool for n, pool in enumerate(MAX_POOLS[3:], 1)},
}
_RELUS = ("clamp", "clamp_min", "clip", "hardtanh", "relu", "relu6")
_OTHERS = ("getattr", "getitem", "permute")

_KNOWN = (
    *(*_PLAIN, *_ADDED, *_MULTIPLIED, *_OF_FIRST, *_SHAPED, *_SHAPES, *_DROPPED, *_AXES, *_POOLED, *_RELUS),
    *_OTHERS,
)
_NAMES: dict[Any, str] = {getattr: "getattr"}
for _name in _KNOWN:
    for _space in (operator, torch, F):
        for _spelled in (_name, f"{_name}_") if _name in _RELUS else (_name,):
            if hasattr(_space, _spelled):
                _NAMES[getattr(_space, _spelled)] = _name


class Refusal(Exception):
    """Why a node cannot be converted."""


class Role(NamedTuple):
    """What becomes of a node.

    - `kind`: a neuron, a gate, the same module with a step mode, a function with a step mode, nothing (its input goes
      on), or what it was.
    - `made`: the pool of a gate, or the function.
    - `varies`: whether its output holds tensors with a batch axis.
    """

    kind: Literal["neuron", "gate", "module", "function", "nothing", "same"]
    made: Any = None
    varies: bool = True


def function_name(node: fx.Node) -> str:
    """The name of a function or method, without the underscore of those in place.

    >>> graph = fx.symbolic_trace(lambda x: x.relu_()).graph
    >>> [function_name(node) for node in graph.nodes if node.op == "call_method"]
    ['relu']
    """
    if isinstance(node.target, str):
        return node.target.rstrip("_")
    return _NAMES.get(node.target, getattr(node.target, "__name__", "function"))


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a call, by its place or by its name."""
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


def role_of(node: fx.Node, root: nn.Module, varying: Collection[fx.Node]) -> Role:
    """What becomes of a node with an input that varies. Refusal if it cannot be converted."""
    if node.op == "output":
        return Role("same")
    if node.op == "call_module":
        return _role_of_module(root.get_submodule(str(node.target)))
    return _role_of_function(node, varying)


def _role_of_module(module: nn.Module) -> Role:
    kind = getattr(module, "torch_class", type(module))  # what a layer of this library is made of
    if is_parametrized(module) or "weight" in vars(module):
        raise Refusal("its weight is computed at each call; remove the weight or spectral normalisation first")
    if kind in MAX_POOLS:
        if module.return_indices:
            raise Refusal(_INDICES)
        return Role("gate", module)
    if _is_relu_module(module):
        return Role("neuron")
    if isinstance(module, NORMS):
        if module.running_var is None:
            raise Refusal("it divides by the statistics of the batch; it needs track_running_stats=True")
    elif kind not in (*SUMS, *DROPOUTS, Dropout, Dropout2d):
        raise Refusal(_advice(kind.__name__))
    elif isinstance(module, nn.Flatten) and module.start_dim == 0:
        raise Refusal("it flattens the batch")
    return Role("module")


def _is_relu_module(module: nn.Module) -> bool:
    """Whether it is a ReLU, clipped or not. Refusal for a Hardtanh that is none."""
    if type(module) is nn.Hardtanh:
        _check_bounds(module.min_val, module.max_val)
    return type(module) in (nn.ReLU, nn.ReLU6, nn.Hardtanh)


def _check_bounds(low: Any, high: Any) -> None:
    number = isinstance(high, (int, float)) and not isinstance(high, bool)
    if low != 0 or not (high is None or (number and high > 0)):
        raise Refusal(f"it clips to {low!r} and {high!r}, but the mean of spikes has 0 as its lower bound")


_INDICES = "it also gives the indices of the maxima, which change from step to step"
_AT_THE_END = ("Softmax", "LogSoftmax", "Softmin", "softmax", "log_softmax", "softmin")
_CURVES = (
    *("GELU", "SiLU", "Mish", "ELU", "CELU", "SELU", "LeakyReLU", "PReLU", "RReLU", "Sigmoid", "Tanh", "Softplus"),
    *("Hardswish", "Hardsigmoid", "gelu", "silu", "mish", "elu", "celu", "selu", "leaky_relu", "prelu", "rrelu"),
    *("sigmoid", "tanh", "softplus", "hardswish", "hardsigmoid", "exp", "log", "sqrt", "abs", "pow"),
)


def _advice(name: str) -> str:
    if name in _AT_THE_END:
        return f"the mean of {name} over time is not {name} of the mean. Leave it to the code around the network"
    if name in _CURVES:
        return f"the mean of {name} over time is not {name} of the mean. Use ReLU, and train the network with it"
    return f"{name} is neither a ReLU, nor a maximum pool, nor a sum with constant weights"


def _role_of_function(node: fx.Node, varying: Collection[fx.Node]) -> Role:
    name = function_name(node)
    if name.endswith("_with_indices"):
        raise Refusal(_INDICES)
    if node.op == "call_function" and node.target not in _NAMES:
        raise Refusal(_advice(name))
    if name in _RELUS:
        _check_bounds(*_bounds(node, name))
        return Role("neuron")
    if name in _POOLED:
        return Role("gate", _pool(node, name))
    if name in _DROPPED:
        return _dropped(node)
    if name == "getattr":
        return _attribute(node)
    if name == "getitem" and _gives_several(node.args[0]):
        return Role("same")
    if name in _SHAPES:
        return Role("function", _function(node), varies=False)
    for check in (_check_axes, _check_order, _check_index, _check_factors):
        check(node, name, varying)
    if name not in _KNOWN:
        raise Refusal(_advice(name))
    return Role("function", _function(node))


def _function(node: fx.Node) -> Callable[..., Any]:
    """The function, or a method as a function; of a method that works in place the one that does not."""
    if callable(node.target):
        return node.target
    return getattr(Tensor, node.target.rstrip("_"))


def _bounds(node: fx.Node, name: str) -> tuple[Any, Any]:
    if name in ("clamp", "clip"):
        return argument(node, 1, "min"), argument(node, 2, "max")
    if name == "clamp_min":
        return argument(node, 1, "min"), None
    return (argument(node, 1, "min_val", -1), argument(node, 2, "max_val", 1)) if name == "hardtanh" else (0, None)


def _pool(node: fx.Node, name: str) -> nn.Module:
    """The module that does what a pooling function does."""
    window: tuple[str, ...] = ("output_size",)
    if not name.startswith("adaptive"):
        window = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = dict(zip(window, node.args[1:], strict=False))
    given |= {key: node.kwargs[key] for key in window if key in node.kwargs}
    if len(node.all_input_nodes) > 1:
        raise Refusal("its window is computed while the network runs; a pool of the whole image is AdaptiveMaxPool")
    return _POOLED[name](**{key: held for key, held in given.items() if held not in (None, [], ())})


def _dropped(node: fx.Node) -> Role:
    if argument(node, 2, "training", True):
        raise Refusal("it drops at random with training=True; hand it training=self.training")
    return Role("nothing")


def _attribute(node: fx.Node) -> Role:
    if node.args[1] == "shape":
        return Role("function", _shape, varies=False)
    if node.args[1] in ("device", "dtype", "ndim"):
        return Role("function", getattr, varies=False)
    raise Refusal(f"the attribute {node.args[1]!r} of a tensor is not followed")


def _shape(x: Tensor, name: str) -> torch.Size:
    return x.shape


def _gives_several(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op in ("call_function", "call_method") and function_name(node) in _CUT


def _check_axes(node: fx.Node, name: str, varying: Collection[fx.Node]) -> None:
    for place, key, default in _AXES.get(name, ()):
        axes = argument(node, place, key, default)
        given = axes if isinstance(axes, (list, tuple)) else [axes]
        if not given or any(axis is None or axis == 0 for axis in given):
            raise Refusal(f"with {key}={axes!r} it takes in the axis of the batch; name axes from 1 on")


def _check_order(node: fx.Node, name: str, varying: Collection[fx.Node]) -> None:
    if name == "permute":
        order = node.args[1:] if len(node.args) > 2 else argument(node, 1, "dims")
        if not isinstance(order, (list, tuple)) or order[0] != 0:
            raise Refusal("it moves the axis of the batch, which must stay the first")


def _check_index(node: fx.Node, name: str, varying: Collection[fx.Node]) -> None:
    if name == "getitem":
        index = node.args[1]
        first = index[0] if isinstance(index, tuple) and index else index
        if first is not Ellipsis and first != slice(None):
            raise Refusal("it takes some of the samples, which must all go through the network alike")


def _check_factors(node: fx.Node, name: str, varying: Collection[fx.Node]) -> None:
    moving = sum(used in varying for used in node.args if isinstance(used, fx.Node))
    moving += sum(used in varying for used in node.kwargs.values() if isinstance(used, fx.Node))
    if name in (*_MULTIPLIED, *_OF_FIRST) and moving > 1:
        raise Refusal("the mean over time of a product (or a quotient) of two activations is not that of the means")
    first = argument(node, 0, "input")
    if name in _OF_FIRST and not (isinstance(first, fx.Node) and first in varying):
        raise Refusal("the activation is among its weights or below the line")
    if node.kwargs.get("rounding_mode") is not None:
        raise Refusal("it rounds")
