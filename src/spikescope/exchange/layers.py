"""Layers of ours, and of PyTorch, and of NIR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import layer
from ..errors import ShapeError, dims
from ..surrogate import Sigmoid, Surrogate
from .package import Unrepresentable, array_of, field, filled, in_steps, nir_package, plain, tensor_of

__all__ = ["Scale", "Threshold", "layer_from_nir", "layer_to_nir"]

Shape = tuple[int, ...]


class Threshold(nn.Module):
    r"""A spike wherever the input reaches a threshold, without a state: $S = \Theta(X - \theta)$.

    - `threshold`: $\theta$, a number or a tensor that broadcasts to one step, but not NaN.

    >>> Threshold(0.5)(torch.tensor([0.25, 0.5, 0.75]))
    tensor([0., 1., 1.])
    """

    threshold: Tensor | float

    def __init__(self, threshold: Tensor | float, surrogate_function: Surrogate | None = None) -> None:
        super().__init__()
        self.surrogate_function = Sigmoid() if surrogate_function is None else surrogate_function
        _hold(self, "threshold", threshold)
        if np.isnan(array_of(torch.as_tensor(threshold))).any():
            raise ValueError(f"Threshold: threshold must be a number or infinity, but got {threshold}.")

    def forward(self, x: Tensor) -> Tensor:
        spike: Tensor = self.surrogate_function(_of_one_shape(self, x, x - self.threshold))
        return spike


class Scale(nn.Module):
    """The input times a number or tensor, element by element.

    >>> Scale(torch.tensor([2.0, 3.0]))(torch.tensor([[1.0, 1.0]]))
    tensor([[2., 3.]])
    """

    scale: Tensor | float

    def __init__(self, scale: Tensor | float) -> None:
        super().__init__()
        _hold(self, "scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return _of_one_shape(self, x, x * self.scale)


def _of_one_shape(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What was made of the input, refused where the input was spread over more elements."""
    if x.shape != y.shape:
        raise ShapeError(
            f"{type(module).__name__} holds values that do not broadcast to its input: from {dims(x.shape)} it would "
            f"make {dims(y.shape)}."
        )
    return y


def _hold(module: nn.Module, name: str, value: Tensor | float) -> None:
    if isinstance(value, Tensor):
        module.register_buffer(name, value)
    else:
        setattr(module, name, float(value))


def _pair(value: Any) -> Any:
    return np.array(value if isinstance(value, tuple) else (value, value))


def _linear(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    if len(x) != 1:
        raise Unrepresentable(f"NIR takes vectors into a linear layer, but its steps are [N, {', '.join(map(str, x))}]")
    weight = array_of(module.weight)
    nir = nir_package()
    return nir.Linear(weight) if module.bias is None else nir.Affine(weight, array_of(module.bias))


def _conv(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    if module.padding_mode != "zeros":
        raise Unrepresentable(f"NIR pads with zeros, but it has padding_mode={module.padding_mode!r}")
    weight = array_of(module.weight)
    bias = np.zeros(len(weight), weight.dtype) if module.bias is None else array_of(module.bias)
    flat = isinstance(module, nn.Conv1d)
    stride, dilation = (held[0] if flat else held for held in (module.stride, module.dilation))
    padding = module.padding if isinstance(module.padding, str) or not flat else module.padding[0]
    kind = nir_package().Conv1d if flat else nir_package().Conv2d
    made = kind(x[1] if flat else x[1:], weight, stride, padding, dilation, module.groups, bias)
    made.metadata = {"bias": module.bias is not None}  # NIR always has one
    return made


def _pool(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    if module.ceil_mode or (module.divisor_override not in (None, 1)):
        raise Unrepresentable("NIR has average and sum pooling with floor, without ceil_mode or another divisor")
    if not module.count_include_pad and module.divisor_override is None and np.any(_pair(module.padding) != 0):
        raise Unrepresentable("NIR counts the padding in an average. Set count_include_pad=True")
    kind = nir_package().AvgPool2d if module.divisor_override is None else nir_package().SumPool2d
    return kind(_pair(module.kernel_size), _pair(module.stride), _pair(module.padding))


def flatten_node(start: int, end: int, x: Shape) -> Any:
    """`flatten(start, end)` of a batch; the axes of NIR begin after the batch."""
    first, last = (axis - 1 if axis >= 0 else axis + len(x) for axis in (start, end))
    if not 0 <= first <= last:
        raise Unrepresentable(f"flatten({start}, {end}) reaches the axis of the batch")
    return nir_package().Flatten({"input": np.array(x)}, first, -1 if last == len(x) - 1 else last)


def _flatten(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    return flatten_node(module.start_dim, module.end_dim, x)


def _delay(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    return nir_package().Delay(filled(module.delay_steps * dt, x))


def _threshold(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    held = module.threshold
    return nir_package().Threshold(filled(array_of(held) if isinstance(held, Tensor) else held, x))


def _scale(module: Any, x: Shape, y: Shape, dt: float) -> Any:
    held = module.scale
    return nir_package().Scale(filled(array_of(held) if isinstance(held, Tensor) else held, x))


_TO_NIR: dict[type[Any], Callable[[Any, Shape, Shape, float], Any]] = {
    **dict.fromkeys((nn.Linear, layer.Linear), _linear),
    **dict.fromkeys((nn.Conv1d, layer.Conv1d, nn.Conv2d, layer.Conv2d), _conv),
    **dict.fromkeys((nn.AvgPool2d, layer.AvgPool2d), _pool),
    **dict.fromkeys((nn.Flatten, layer.Flatten), _flatten),
    layer.Delay: _delay,
    Threshold: _threshold,
    Scale: _scale,
}
LAYERS = frozenset(_TO_NIR)
WITHOUT_EFFECT = (nn.Identity, nn.Dropout, nn.Dropout2d, layer.Dropout, layer.Dropout2d)  # in eval


def layer_to_nir(module: nn.Module, x: Shape, y: Shape, dt: float) -> Any:
    """The node of NIR for a layer that makes steps of `[N, *y]` from steps of `[N, *x]`."""
    made = _TO_NIR[type(module)](module, x, y, dt)
    made.input_type, made.output_type = {"input": np.array(x)}, {"output": np.array(y)}
    return made


def _made_linear(node: Any, dt: float) -> nn.Module:
    weight = tensor_of(node.weight)
    if weight.ndim != 2:
        raise Unrepresentable(f"its weight has {weight.ndim} axes, and a linear layer has 2")
    bias = getattr(node, "bias", None)
    made = layer.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _loaded(made, weight, bias)


def _made_conv(node: Any, dt: float) -> nn.Module:
    weight, groups = tensor_of(node.weight), int(node.groups)
    kind = layer.Conv1d if weight.ndim == 3 else layer.Conv2d
    stride, dilation, padding = (_numbers(held) for held in (node.stride, node.dilation, node.padding))
    channels = (weight.shape[1] * groups, weight.shape[0])
    bias = np.asarray(node.bias)
    biased = bool(bias.any() or (node.metadata or {}).get("bias", True))
    made = kind(*channels, tuple(weight.shape[2:]), stride, padding, dilation, groups, biased)
    return _loaded(made, weight, bias if biased else None)


def _loaded(made: Any, weight: Tensor, bias: Any) -> nn.Module:
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = nn.Parameter(tensor_of(bias))
        if made.bias.shape != weight.shape[:1]:
            raise Unrepresentable(f"its bias is {dims(made.bias.shape)}, and its weight {dims(weight.shape)}")
    loaded: nn.Module = made
    return loaded


def _numbers(held: Any) -> Any:
    """A setting of a convolution or a pooling: a text, a number, or a tuple."""
    if isinstance(held, (str, bytes)):
        return held if isinstance(held, str) else held.decode()
    numbers = tuple(int(number) for number in np.atleast_1d(held))
    if numbers != tuple(np.atleast_1d(held)):
        raise Unrepresentable(f"{held} is not a whole number, which a stride, a padding and a dilation are")
    return numbers[0] if len(numbers) == 1 else numbers


def _made_pool(node: Any, dt: float) -> nn.Module:
    kernel, stride, padding = (_numbers(held) for held in (node.kernel_size, node.stride, node.padding))
    total = type(node).__name__ == "SumPool2d"
    made: nn.Module = layer.AvgPool2d(kernel, stride, padding, divisor_override=1 if total else None)
    return made


def _made_flatten(node: Any, dt: float) -> nn.Module:
    start, end = int(node.start_dim), int(node.end_dim)
    made: nn.Module = layer.Flatten(start if start < 0 else start + 1, end if end < 0 else end + 1)
    return made


def _made_delay(node: Any, dt: float) -> nn.Module:
    steps = in_steps(node.delay, dt)
    if np.ndim(steps) or abs(steps - round(steps)) > 1e-4:
        raise Unrepresentable(f"its delay is not a whole number of steps of {dt:g} s, the same for all")
    return layer.Delay(round(steps))


_FROM_NIR: dict[str, Callable[[Any, float], nn.Module]] = {
    **dict.fromkeys(("Affine", "Linear"), _made_linear),
    **dict.fromkeys(("Conv1d", "Conv2d"), _made_conv),
    **dict.fromkeys(("AvgPool2d", "SumPool2d"), _made_pool),
    "Flatten": _made_flatten,
    "Delay": _made_delay,
    "Scale": lambda node, dt: Scale(field(plain(node.scale))),
}


def layer_from_nir(node: Any, dt: float) -> nn.Module | None:
    """The layer for a node of NIR, or None if it is no layer."""
    make = _FROM_NIR.get(type(node).__name__)
    return None if make is None else make(node, dt)
