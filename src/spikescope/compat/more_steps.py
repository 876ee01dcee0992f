"""More of the steps that SpikingJelly 2.0 has as functions: of neurons with weights over time, of gated ones, and of
neurons in front of a linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError, check_sequence, check_whole, dims
from ..neuron.gated import conducted, gated
from ..surrogate import Sigmoid, Surrogate
from .sequences import if_multi_step, lif_multi_step
from .steps import voltage_reset

__all__ = [
    "activation_aware_if_multi_step",
    "activation_aware_if_step",
    "gated_lif_step",
    "if_linear",
    "lif_linear",
    "masked_psn_step",
    "sliding_psn_step",
    "sparse_linear",
]

Queue = tuple[Tensor, ...]
_HEAVISIDE = Sigmoid()


def activation_aware_if_step(
    x: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    v_offset: Tensor,
    v_reset: float | None,
    surrogate_function: Surrogate,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""One step of an integrate-and-fire neuron that fires at $V + V_{offset} \ge V_{th}$: spike and potential."""
    h = v + x
    spike = surrogate_function(h + v_offset - v_threshold)
    return spike, voltage_reset(h, spike, v_threshold, v_reset, detach_reset)  # type: ignore[arg-type]  # a tensor, too


def activation_aware_if_multi_step(
    x_seq: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    v_offset: Tensor,
    channel_size: int,
    inner_size: int,
    v_reset: float | None = 0.0,
    store_v_seq: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`activation_aware_if_step` over a sequence: spikes, the last potential, and `v_seq` or None.

    The thresholds and offsets are of one number, or of `channel_size` channels, each `inner_size` values in a row of
    the flat step.
    """
    owner = "activation_aware_if_multi_step"
    check_sequence(owner, x_seq)
    inner_size, channel_size = (check_whole(owner, "a size", size) for size in (inner_size, channel_size))
    if not len(x_seq) or v.shape != x_seq.shape[1:] or v.numel() % (channel_size * inner_size):
        raise ShapeError(
            f"{owner} takes a sequence [T, *] of at least one step, v like a step, and {channel_size} channels of "
            f"{inner_size} values that fill a step, but got {dims(x_seq.shape)} and {dims(v.shape)}."
        )
    channel = torch.arange(v.numel(), device=v.device) // inner_size % channel_size
    fields = []
    for name, held in (("v_threshold", v_threshold), ("v_offset", v_offset)):
        if held.numel() not in (1, channel_size):
            raise ShapeError(
                f"{owner}: {name} must have one value or {channel_size}, one a channel, but got {dims(held.shape)}."
            )
        fields.append(held.flatten().expand(channel_size)[channel].view(v.shape))
    threshold, offset = fields
    spikes, potentials = [], []
    for x in x_seq:
        spike, v = activation_aware_if_step(x, v, threshold, offset, v_reset, _HEAVISIDE)
        spikes.append(spike)
        potentials.append(v)
    return torch.stack(spikes), v, torch.stack(potentials) if store_v_seq else None


def gated_lif_step(
    x: Tensor,
    v: Tensor,
    spike: Tensor,
    alpha: Tensor,
    beta: Tensor,
    gamma: Tensor,
    tau: Tensor,
    v_threshold: Tensor,
    linear_decay: Tensor,
    v_subreset: Tensor,
    conduct: Tensor,
    surrogate_function: Surrogate,
) -> tuple[Tensor, Tensor]:
    """One step of `neuron.GatedLIFNode` with gates and numbers as they are, not their logits: spike and potential."""
    u = gated(alpha, gamma, tau, linear_decay, v_subreset, v, spike, conducted(beta, conduct) * x)
    return surrogate_function(u - v_threshold), u


def _queued(owner: str, queue: Queue, x: Tensor, k: int) -> Queue:
    """The last `k` inputs, the present one at the end, each as a vector."""
    if any(held.shape != (x.numel(),) for held in queue):
        raise ShapeError(
            f"{owner}: the queue must hold earlier inputs as vectors of {x.numel()} values, as the step gives them, "
            f"but has {', '.join(dims(held.shape) for held in queue)}. Begin with an empty one."
        )
    return (*queue, x.flatten())[-k:]


def _fired(queue: Queue, weight: Tensor, bias: Tensor, surrogate_function: Surrogate, x: Tensor) -> Tensor:
    """The spikes of a weighted sum over the inputs that are waiting."""
    spike: Tensor = surrogate_function(weight @ torch.stack(queue) + bias)
    return spike.view(x.shape)


def sliding_psn_step(
    x: Tensor, queue: Queue, weight: Tensor, bias: Tensor, surrogate_function: Surrogate
) -> tuple[Tensor, Queue]:
    """One step of `neuron.SlidingPSN`: the spikes, and its last inputs as vectors."""
    queue = _queued("sliding_psn_step", queue, x, len(weight))
    return _fired(queue, weight[len(weight) - len(queue) :], bias, surrogate_function, x), queue


def masked_psn_step(
    x: Tensor,
    time_step: int,
    queue: Queue,
    masked_weight: Tensor,
    bias: Tensor,
    k: int,
    surrogate_function: Surrogate,
) -> tuple[Tensor, int, Queue]:
    """One step of `neuron.MaskedPSN`: the spikes, the number of the next step, and its last inputs as vectors."""
    if not 0 <= time_step < len(masked_weight):
        raise ShapeError(f"masked_psn_step has weights for {len(masked_weight)} steps, but got time_step={time_step}.")
    queue = _queued("masked_psn_step", queue, x, k)
    weight = masked_weight[time_step, time_step + 1 - len(queue) : time_step + 1]
    return _fired(queue, weight, bias[time_step], surrogate_function, x), time_step + 1, queue


def sparse_linear(spike: Tensor, weight: Tensor, bias: Tensor | None = None, strategy: str = "torch") -> Tensor:
    """`torch.nn.functional.linear`, whatever the strategy."""
    return F.linear(spike, weight, bias)


def if_linear(
    x: Tensor,
    v: Tensor,
    weight_t: Tensor,
    bias: Tensor | None = None,
    *,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = False,
    surrogate_function: Surrogate | None = None,
    threads: int = 256,
) -> tuple[Tensor, Tensor]:
    """`neuron.IFNode` and a linear layer behind it, of a step `[N, K]` or a sequence `[T, N, K]`: output and `v`.

    - `weight_t`: the weight, `[K, out]`; `threads` has no meaning here.
    """
    fields = (v_threshold, v_reset, surrogate_function, detach_reset)
    spikes, v, _ = if_multi_step(_as_sequence("if_linear", x, v, weight_t), v, *fields)
    return _linear(spikes, x, weight_t, bias), v


def lif_linear(
    x: Tensor,
    v: Tensor,
    weight_t: Tensor,
    bias: Tensor | None = None,
    *,
    tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = False,
    surrogate_function: Surrogate | None = None,
    threads: int = 256,
) -> tuple[Tensor, Tensor]:
    """`neuron.LIFNode` and a linear layer behind it; see `if_linear`."""
    fields = (tau, decay_input, v_threshold, v_reset, surrogate_function, detach_reset)
    spikes, v, _ = lif_multi_step(_as_sequence("lif_linear", x, v, weight_t), v, *fields)
    return _linear(spikes, x, weight_t, bias), v


def _as_sequence(owner: str, x: Tensor, v: Tensor, weight_t: Tensor) -> Tensor:
    if x.ndim not in (2, 3) or weight_t.ndim != 2 or v.shape != x.shape[-2:] or x.shape[-1] != len(weight_t):
        raise ShapeError(
            f"{owner} takes [N, K] or [T, N, K], v [N, K] and weight_t [K, out], but got {dims(x.shape)}, "
            f"{dims(v.shape)} and {dims(weight_t.shape)}."
        )
    return x if x.ndim == 3 else x.unsqueeze(0)


def _linear(spikes: Tensor, x: Tensor, weight_t: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(spikes if x.ndim == 3 else spikes.squeeze(0), weight_t.T, bias)
