"""The gated neuron: it learns a mixture of two ways each of leaking, of integrating its input and of resetting."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..dynamics import Step
from ..errors import LARGEST, StateError, check_fits
from ..fields import Value, option, part, value
from ..surrogate import Sigmoid, Surrogate
from .core import PointwiseNeuron
from .fast.shortcut import methods_of

__all__ = ["GatedLIFNode"]


class Gated(NamedTuple):
    """The potential as it met the threshold, and the spike: the reset is taken at the beginning of the next step."""

    v: Value = 0.0
    spike: Value = 0.0


def _logit(owner: str, name: str, given: float) -> float:
    """The number whose sigmoid is `given`."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{owner}: {name} must be a number, but got {given!r}.")
    if not 0 < given < 1:
        raise ValueError(f"{owner}: {name} is kept as a sigmoid and must be above 0 and below 1, but got {given!r}.")
    return -math.log(1 / given - 1)


def conducted(beta: Tensor, conduct: Tensor) -> Tensor:
    """What the input of a step is multiplied by."""
    return 1 - beta * (1 - conduct)


def gated(
    alpha: Tensor, gamma: Tensor, tau: Tensor, decay: Tensor, subreset: Tensor, v: Value, spike: Value, x: Tensor
) -> Tensor:
    """The potential after the reset of the step before, the leak and the input `x` of this one."""
    left = (1 - alpha * (1 - tau)) * (1 - gamma * spike) * v
    return left - (1 - alpha) * decay - (1 - gamma) * subreset * spike + x


class GatedLIFNode(PointwiseNeuron):
    r"""Gated leaky integrate-and-fire (GLIF) for `T` steps; all its numbers are learned, as sigmoids of Parameters.

    $$U_t = \left(1 - \alpha(1 - \tau)\right)(1 - \gamma S_{t-1})\,U_{t-1} - (1 - \alpha) L - (1 - \gamma) R\,S_{t-1}
      + \left(1 - \beta(1 - g_t)\right) X_t \qquad S_t = \Theta(U_t - V_{th})$$

    The gates mix exponential and linear leak ($\alpha$), a conductance per step and none ($\beta$), hard and soft reset
    ($\gamma$); they begin at 1/2. `v` is $U_t$: the reset comes with the next step. `step_mode` is `'m'` unless given.

    - `T`: the number of steps, each with a conductance $g_t$ of its own; more than these are refused.
    - `inplane`: None: one value of each for the layer; or the channels C of `[N, C, H, W]`; or the Parameters' shape.
    - `init_linear_decay`, `init_v_subreset`, `init_tau`, `init_v_threshold`, `init_conduct`: $L, R, \tau, V_{th}, g_t$
      at the start, between 0 and 1; $L$ is $V_{th} / 2T$ and $R$ is $V_{th}$ unless given.

    Yao et al., *GLIF: a unified gated leaky integrate-and-fire neuron for spiking neural networks* (NeurIPS 2022).

    >>> node = GatedLIFNode(T=2)  # U = 0.75 X - 0.0625 = 0.6875, then 0.625 * 0.5 U - 0.0625 - 0.25 + 0.75 X
    >>> node(torch.tensor([[1.0], [0.5]])).flatten().detach(), node.v.detach()
    (tensor([1., 0.]), tensor([0.2773]))
    """

    T: int = option(kind=int, at_least=1, shapes_dynamics=False)
    inplane: int | tuple[int, ...] | None = option(default=None, shapes_dynamics=False)
    init_linear_decay: float | None = option(default=None, shapes_dynamics=False)
    init_v_subreset: float | None = option(default=None, shapes_dynamics=False)
    init_tau: float = option(default=0.25, shapes_dynamics=False)
    init_v_threshold: float = option(default=0.5, shapes_dynamics=False)
    init_conduct: float = option(default=0.5, shapes_dynamics=False)
    surrogate_function: Surrogate = part(factory=Sigmoid, kw_only=True)
    step_mode: str = option(default="m", shapes_dynamics=False, kw_only=True)
    alpha: Tensor = value(init=False, learnable=True)
    beta: Tensor = value(init=False, learnable=True)
    gamma: Tensor = value(init=False, learnable=True)
    tau: Tensor = value(init=False, learnable=True)
    v_threshold: Tensor = value(init=False, learnable=True)
    linear_decay: Tensor = value(init=False, learnable=True)
    v_subreset: Tensor = value(init=False, learnable=True)

    State = Gated
    example = {"T": 16}
    driven_by = ("t",)

    def prepare(self) -> None:
        shape = self._shape()
        threshold, start = self.init_v_threshold, self._start
        self.alpha, self.beta, self.gamma = (nn.Parameter(torch.zeros(shape)) for _ in range(3))
        self.tau = start("init_tau", self.init_tau, shape)
        self.v_threshold = start("init_v_threshold", threshold, shape)
        decay, subreset = self.init_linear_decay, self.init_v_subreset
        self.linear_decay = start("init_linear_decay", threshold / (2 * self.T) if decay is None else decay, shape)
        self.v_subreset = start("init_v_subreset", threshold if subreset is None else subreset, shape)
        self.conduct = start("init_conduct", self.init_conduct, (self.T, *shape))
        self.register_memory("t", 0)  # the steps since the reset
        super().prepare()

    def _shape(self) -> tuple[int, ...]:
        inplane: Any = self.inplane  # a number of NumPy is one
        match inplane:
            case None:
                return ()
            case bool():
                pass
            case Integral() if 0 < int(inplane) <= LARGEST:
                return (int(inplane), 1, 1)
            case tuple(shape) if all(isinstance(size, Integral) and 0 < int(size) <= LARGEST for size in shape):
                return tuple(int(size) for size in shape)
        raise ValueError(
            f"{type(self).__name__}: inplane must be None, a number of channels or a shape, but got {self.inplane!r}."
        )

    def _start(self, name: str, given: float, shape: tuple[int, ...]) -> nn.Parameter:
        return nn.Parameter(torch.full(shape, _logit(type(self).__name__, name, given)))

    @property
    def u(self) -> Value:
        """The potential, as `v`: SpikingJelly keeps it under both names."""
        held: Value = self.v
        return held

    @u.setter
    def u(self, value: Value) -> None:
        self.v = value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The entries, of channels also as SpikingJelly has them: `[C]` and `[T, C]`, without places."""
        for name, own in self.named_parameters(recurse=False):
            held = state_dict.get(prefix + name)
            if own.shape[-2:] == (1, 1) and isinstance(held, Tensor) and held.shape == own.shape[:-2]:
                state_dict[prefix + name] = held[..., None, None]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def gain_in_time(self, x_seq: Tensor) -> Tensor:
        begin, conduct = self.t, self.conduct
        end, steps = begin + len(x_seq), len(conduct)
        if end > steps:
            raise StateError(
                f"{type(self).__name__} was made for T={steps} steps; it has run {begin} since the reset and cannot "
                f"run {len(x_seq)} more. Call functional.reset_net(net) before a new sequence, or make it with T={end}."
            )
        if conduct.ndim > 1:
            check_fits(type(self).__name__, "conduct", conduct[0], x_seq.shape[1:])
        taken = conduct if end - begin == steps else conduct[begin:end]
        beta, taken = self.beta.to(x_seq.dtype), taken.to(x_seq.dtype)
        gain = conducted(torch.sigmoid(beta), torch.sigmoid(taken))
        self.t: int = end
        return gain.reshape(len(gain), *(1,) * (x_seq.ndim - gain.ndim), *gain.shape[1:])

    def _gains_numbers(self) -> bool:
        return self.beta.ndim == 0 and self.conduct.ndim == 1

    def _drive_keeps_form(self) -> bool:
        return True

    @classmethod
    def step(cls, p: Any, s: Gated, x: Tensor) -> Step:
        alpha, gamma, tau, decay, subreset = map(torch.sigmoid, (p.alpha, p.gamma, p.tau, p.linear_decay, p.v_subreset))
        u = gated(alpha, gamma, tau, decay, subreset, s.v, s.spike, x)
        spike = p.surrogate_function(u - torch.sigmoid(p.v_threshold))
        return Step(spike, Gated(u, spike), u)


GatedLIFNode.ways = (*PointwiseNeuron.ways, *methods_of(GatedLIFNode))
