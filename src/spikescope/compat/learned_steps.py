"""One step of the rules of `spikescope.learning` as functions of spikes, traces and weight, as SpikingJelly has them.

Those of 2.0 take the weight, and spikes that are padded already: `stdp_linear_step(in_spike, out_spike, (trace_pre,
trace_post), weight, tau_pre=..., tau_post=...)` gives the change of the weight and the traces. Those of 0.0.0.0.14 take
the layer: `stdp_linear_single_step(fc, in_spike, out_spike, trace_pre, trace_post, tau_pre, tau_post)` gives the traces
and the change. What is given is not changed, and no result has a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ShapeError, check_bound, check_sequence, check_tensor, check_whole, dims
from ..learning import WeightFunction, change_of, exponential, leaky, same, through

__all__ = [
    "mstdp_linear_single_step",
    "mstdp_linear_step",
    "mstdpet_linear_single_step",
    "mstdpet_linear_step",
    "mstdpet_reward_step",
    "stdp_conv1d_single_step",
    "stdp_conv1d_step",
    "stdp_conv2d_single_step",
    "stdp_conv2d_step",
    "stdp_linear_single_step",
    "stdp_linear_step",
    "stdp_multi_step",
]

Traces = tuple[Tensor, Tensor]


def _synapse(owner: str, weight: Tensor, axes: int, stride: Any = 1) -> Any:
    """A layer with this weight, and neither bias nor padding."""
    check_tensor(owner, "the weight", weight)
    if weight.ndim != axes:
        raise ShapeError(f"{owner} takes a weight with {axes} axes, but got {dims(weight.shape)}.")
    for each in stride if isinstance(stride, tuple | list) else (stride,):
        check_whole(owner, "stride", each)
    made: Any
    if axes == 2:
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    else:
        kind: Any = nn.Conv1d if axes == 3 else nn.Conv2d
        made = kind(weight.shape[1], weight.shape[0], weight.shape[2:], stride, bias=False, device="meta")
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return made


def _tracked(
    owner: str, synapse: Any, spikes: Traces, trace: Traces, taus: tuple[float, float], left: Callable[..., Any]
) -> list[Tensor]:
    """The spikes on both sides `[N, *]` and their traces with them, or an error in words."""
    for name, tau in zip(("tau_pre", "tau_post"), taus, strict=True):
        check_bound(owner, name, tau, **({"least": 1} if left is leaky else {"above": 0}))
    if not (isinstance(trace, tuple | list) and len(trace) == 2):
        raise TypeError(f"{owner} takes the traces as (trace_pre, trace_post), but got {trace!r}.")
    for what, held in zip(("in_spike", "out_spike", "trace_pre", "trace_post"), (*spikes, *trace), strict=True):
        check_tensor(owner, what, held)
    x, y = (held if held.is_floating_point() else held.to(synapse.weight.dtype) for held in spikes)
    (pre, post), weight = trace, synapse.weight
    fits = x.ndim == weight.ndim and x.shape[1] == weight.shape[1] and (pre.shape, post.shape) == (x.shape, y.shape)
    if not fits or through(synapse, x.to("meta"), weight.to("meta", x.dtype)).shape != y.shape:
        raise ShapeError(
            f"{owner} takes spikes [N, *] before and behind a weight of {dims(weight.shape)} and traces like them, but "
            f"got spikes of {dims(x.shape)} and {dims(y.shape)}, traces of {dims(pre.shape)} and {dims(post.shape)}."
        )
    return [x, y, left(pre, taus[0]) + x, left(post, taus[1]) + y]


def _summed(
    owner: str, synapse: Any, spikes: Traces, trace: Traces, taus: tuple[float, float], *by: WeightFunction
) -> tuple[Tensor, Traces]:
    """STDP: the change of the weight over all samples and places, and the traces."""
    with torch.no_grad():
        tracked = _tracked(owner, synapse, spikes, trace, taus, leaky)
        down, up = (function(synapse.weight) for function in by)
        return change_of(synapse, tracked, up, down), (tracked[2], tracked[3])


def _of_each_sample(
    owner: str, weight: Tensor, spikes: Traces, trace: Traces, taus: tuple[float, float], *by: WeightFunction
) -> tuple[Tensor, Traces]:
    """The change that waits for a reward, of each sample `[N, out, in]`, and the traces."""
    with torch.no_grad():
        synapse = _synapse(owner, weight, 2)
        tracked = _tracked(owner, synapse, spikes, trace, taus, exponential)
        down, up = (function(synapse.weight) for function in by)
        changes = weight.new_zeros(len(tracked[0]), *weight.shape)
        for sample, change in enumerate(changes):
            change.copy_(change_of(synapse, [held[sample : sample + 1] for held in tracked], up, down))
        return changes, (tracked[2], tracked[3])


def stdp_linear_step(
    in_spike: Tensor,
    out_spike: Tensor,
    trace: Traces,
    weight: Tensor,
    *,
    tau_pre: float,
    tau_post: float,
    f_pre: WeightFunction = same,
    f_post: WeightFunction = same,
) -> tuple[Tensor, Traces]:
    """One step of `learning.STDPLearner` for a linear layer: the change of the weight, and the traces.

    >>> x, y, rest = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0]]), (torch.zeros(1, 2), torch.ones(1, 1))
    >>> stdp_linear_step(x, y, rest, torch.ones(1, 2), tau_pre=2.0, tau_post=4.0)  # 1 - 1.75
    (tensor([[-0.7500,  0.0000]]), (tensor([[1., 0.]]), tensor([[1.7500]])))
    """
    synapse = _synapse("stdp_linear_step", weight, 2)
    return _summed("stdp_linear_step", synapse, (in_spike, out_spike), trace, (tau_pre, tau_post), f_pre, f_post)


def _convolving(name: str, axes: int, shape: str) -> Callable[..., tuple[Tensor, Traces]]:
    """The rule for a convolution whose weight has so many axes."""

    def step(
        in_spike: Tensor,
        out_spike: Tensor,
        trace: Traces,
        weight: Tensor,
        *,
        stride: tuple[int, ...],
        tau_pre: float,
        tau_post: float,
        f_pre: WeightFunction = same,
        f_post: WeightFunction = same,
    ) -> tuple[Tensor, Traces]:
        synapse = _synapse(name, weight, axes, stride)
        return _summed(name, synapse, (in_spike, out_spike), trace, (tau_pre, tau_post), f_pre, f_post)

    step.__name__ = step.__qualname__ = name
    step.__doc__ = f"`stdp_linear_step` for a convolution over `{shape}`."
    return step


stdp_conv1d_step = _convolving("stdp_conv1d_step", 3, "[N, C, L]")
stdp_conv2d_step = _convolving("stdp_conv2d_step", 4, "[N, C, H, W]")


def mstdp_linear_step(
    in_spike: Tensor,
    out_spike: Tensor,
    trace: Traces,
    weight: Tensor,
    *,
    tau_pre: float,
    tau_post: float,
    f_pre: WeightFunction = same,
    f_post: WeightFunction = same,
) -> tuple[Tensor, Traces]:
    """One step of `learning.MSTDPLearner`: the change of each sample `[N, out, in]` before a reward, and the traces."""
    spikes, taus = (in_spike, out_spike), (tau_pre, tau_post)
    return _of_each_sample("mstdp_linear_step", weight, spikes, trace, taus, f_pre, f_post)


def mstdpet_linear_step(
    in_spike: Tensor,
    out_spike: Tensor,
    trace: Traces,
    weight: Tensor,
    *,
    tau_pre: float,
    tau_post: float,
    f_pre: WeightFunction = same,
    f_post: WeightFunction = same,
) -> tuple[Tensor, Traces]:
    """`mstdp_linear_step` of a single sample, `[in]` and `[out]`."""
    for what, held in (("in_spike", in_spike), ("out_spike", out_spike)):
        check_tensor("mstdpet_linear_step", what, held)
    (x, y), (pre, post) = ([held.unsqueeze(0) for held in pair] for pair in ((in_spike, out_spike), trace))
    taus = tau_pre, tau_post
    change, after = _of_each_sample("mstdpet_linear_step", weight, (x, y), (pre, post), taus, f_pre, f_post)
    return change[0], (after[0][0], after[1][0])


def mstdpet_reward_step(
    reward: Tensor | float, eligibility: Tensor, trace_e: Tensor, *, tau_trace: float
) -> tuple[Tensor, Tensor]:
    """The change of the weight by a reward, and the eligibility trace of `learning.MSTDPETLearner`."""
    check_bound("mstdpet_reward_step", "tau_trace", tau_trace, above=0)
    trace_e = exponential(trace_e, tau_trace) + eligibility / tau_trace
    return reward * trace_e, trace_e


def _check_layer(owner: str, layer: object, kinds: tuple[type[nn.Module], ...]) -> None:
    if not isinstance(layer, kinds):
        names = " or a ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{owner} takes a {names}, but got {type(layer).__name__}.")


def _padded(layer: Any, in_spike: Tensor) -> Tensor:
    """What a layer without padding would take in its place."""
    if isinstance(layer, nn.Linear):
        return in_spike
    if set(layer.dilation) != {1} or layer.groups != 1:
        raise NotImplementedError(
            f"The rules as functions know no dilation and no groups, but got {layer}. learning.STDPLearner does."
        )
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(in_spike, layer._reversed_padding_repeated_twice, mode=mode)


def _start(held: Tensor | float | None, spikes: Tensor) -> Tensor:
    return held if isinstance(held, Tensor) else torch.full_like(spikes, held or 0.0)


def _of_layer(
    name: str, step: Callable[..., Any], kind_of_layer: type[nn.Module], more: str = ""
) -> Callable[..., Any]:
    """`step` by the weight, stride and padding of a layer; `more` is an argument that does nothing."""
    layer = "fc" if kind_of_layer is nn.Linear else "conv"
    kind = Parameter.POSITIONAL_OR_KEYWORD
    order = f"{layer} in_spike out_spike trace_pre trace_post tau_pre tau_post {more}".split()
    functions = [Parameter(function, kind, default=same) for function in ("f_pre", "f_post")]
    signature = Signature([*(Parameter(key, kind) for key in order), *functions])

    def run(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        held, y = given[layer], given["out_spike"]
        _check_layer(name, held, (kind_of_layer,))
        x = _padded(held, given["in_spike"])
        named: dict[str, Any] = {key: given[key] for key in ("tau_pre", "tau_post", "f_pre", "f_post")}
        if not isinstance(held, nn.Linear):
            named["stride"] = held.stride
        trace = _start(given["trace_pre"], x), _start(given["trace_post"], y)
        change, (pre, post) = step(x, y, trace, held.weight, **named)
        return pre, post, change

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"`{step.__name__}` of a layer, from traces that may be None: the traces, and the change."
    run.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` reads
    return run


stdp_linear_single_step = _of_layer("stdp_linear_single_step", stdp_linear_step, nn.Linear)
stdp_conv1d_single_step = _of_layer("stdp_conv1d_single_step", stdp_conv1d_step, nn.Conv1d)
stdp_conv2d_single_step = _of_layer("stdp_conv2d_single_step", stdp_conv2d_step, nn.Conv2d)
mstdp_linear_single_step = _of_layer("mstdp_linear_single_step", mstdp_linear_step, nn.Linear)
mstdpet_linear_single_step = _of_layer("mstdpet_linear_single_step", mstdpet_linear_step, nn.Linear, "tau_trace")


def stdp_multi_step(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d,
    in_spike: Tensor,
    out_spike: Tensor,
    trace_pre: Tensor | float | None,
    trace_post: Tensor | float | None,
    tau_pre: float,
    tau_post: float,
    f_pre: WeightFunction = same,
    f_post: WeightFunction = same,
) -> tuple[Tensor, Tensor, Tensor]:
    """The steps `[T, N, *]` of `learning.STDPLearner` one after the other: the traces, and the sum of the changes."""
    _check_layer("stdp_multi_step", layer, (nn.Linear, nn.Conv1d, nn.Conv2d))
    for held in (in_spike, out_spike):
        check_sequence("stdp_multi_step", held)
    if len(in_spike) != len(out_spike) or not len(in_spike):
        raise ShapeError(
            f"stdp_multi_step takes as many steps on both sides, at least one, but got {dims(in_spike.shape)} and "
            f"{dims(out_spike.shape)}."
        )
    step = {2: stdp_linear_single_step, 3: stdp_conv1d_single_step, 4: stdp_conv2d_single_step}[layer.weight.ndim]
    change, pre, post = torch.zeros_like(layer.weight, requires_grad=False), trace_pre, trace_post
    for x, y in zip(in_spike, out_spike, strict=True):
        pre, post, more = step(layer, x, y, pre, post, tau_pre, tau_post, f_pre, f_post)
        change = change + more
    return pre, post, change  # type: ignore[return-value]  # tensors after a step
