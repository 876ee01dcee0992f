"""Parallel spiking neurons: without a reset, the potentials of all steps are one weighted sum of the inputs."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..dynamics import Plan, Step, plan, run_sequence
from ..dynamics.parallel import fired, refused, weighted, what_sums
from ..errors import LARGEST, ShapeError, StateError, check_floating, check_number, check_sequence, dims, watch_input
from ..fields import option, part, value
from ..surrogate import ATan, Surrogate
from .base import Neuron
from .core import PointwiseNeuron, wide

__all__ = ["PSN", "MaskedPSN", "ParallelNeuron", "SlidingPSN"]


LARGE = 1 << 15
"""Values from which one pass of a kernel takes less time than those of a surrogate by itself."""


class Threshold(PointwiseNeuron, abstract=True):
    """What fires where its input is at least 0 and keeps nothing: the part of a parallel neuron that is pointwise."""

    surrogate_function: Surrogate = part(factory=ATan, kw_only=True)

    class State(NamedTuple):
        """Kernels know neurons by their state."""

        v: float | Tensor = 0.0

    @staticmethod
    def step(p: Any, s: Any, x: Tensor) -> Step:
        return Step(p.surrogate_function(x), s, x)


Threshold.abstract = False  # it can be made, and is not among the neurons


class ParallelNeuron(Neuron, abstract=True):
    r"""Base of the neurons that sum their inputs over time with learnable weights and fire without a reset.

    $$H = W X + B \qquad S = \Theta(H), \qquad X, H, S \text{ of shape } [T, N, *]$$

    $W$ and $B$ are the Parameters `weight` and `bias`; $B$, the negative of the threshold, starts at -1.
    """

    surrogate_function: Surrogate = part(factory=ATan, kw_only=True)
    weight: Tensor = value(init=False)
    bias: Tensor = value(init=False)

    def _shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """The shapes that the weights and the bias may have."""
        raise NotImplementedError("a parallel neuron says how many weights it has")

    def _check_weights(self) -> None:
        """Refuse weights that do not fit the steps, which would give other steps, or none, in silence."""
        for name, wanted in self._shapes().items():
            held = getattr(self, name)
            if not isinstance(held, Tensor) or tuple(held.shape) not in wanted:
                came = dims(held.shape) if isinstance(held, Tensor) else repr(held)
                shapes = " or ".join(str(list(shape)) for shape in wanted)
                raise ShapeError(
                    f"{type(self).__name__}: {name} must be a tensor of the shape {shapes}, but got {came}."
                )

    def _fire(self, weight: Tensor, bias: Tensor, inputs: Tensor, out: torch.dtype) -> Tensor:
        """The spikes of `weight` [steps, inputs] applied to `inputs` [inputs, N, *], in the dtype `out`."""
        weight, bias = weight.to(inputs.dtype), bias.to(inputs.dtype)
        found = fired(type(self).__name__, self.surrogate_function, weight, bias, inputs)
        if found is not None:
            return found.to(out)
        h = weighted(weight, bias, inputs)
        if weight.requires_grad:
            watch_input(type(self).__name__, h, inputs)
        return self._spikes(h).to(out)

    def implementation(self, x: Tensor) -> Plan:
        """What would run an input like `x` (in the present step mode), and why."""
        inputs = wide(x).unsqueeze(0) if self.step_mode == "s" else wide(x)
        weight = self._matrix(len(inputs)).to(inputs)
        reason = refused(self.surrogate_function, weight, self.bias.to(inputs), inputs)
        return Plan("torch", reason) if reason else Plan("cpp", what_sums(weight, inputs))

    def _matrix(self, steps: int) -> Tensor:
        """The weights by which sequences of so many steps are summed."""
        return self.weight

    def _spikes(self, h: Tensor) -> Tensor:
        """Where the sums reach 0, with the slope of the surrogate; of many values on a CPU by a kernel."""
        if torch.compiler.is_compiling() or h.numel() < LARGE or h.device.type != "cpu":
            return self.surrogate_function(h)
        threshold = self.__dict__.get("_threshold")
        if threshold is None or threshold.surrogate_function is not self.surrogate_function:
            threshold = self.__dict__["_threshold"] = Threshold(surrogate_function=self.surrogate_function)
        definition, state = threshold._definition(threshold.params()), Threshold.State()
        if plan("auto", definition, state, h).backend == "torch":
            return self.surrogate_function(h)
        found: Tensor = run_sequence("auto", definition, state, h, False).output
        return found

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_threshold", None)
        return state

    def _queued(self, queue: Tensor, x_shape: torch.Size) -> Tensor:
        """The inputs that wait, `[steps, N, *]`; those that were assigned spread over a step."""
        if queue.shape[1:] == x_shape or not len(queue):
            return queue.reshape(len(queue), *x_shape)
        return torch.stack([self.fitting("queue", x_shape, held) for held in queue])

    def _check_steps(self, x_seq: Tensor, steps: int) -> None:
        owner = type(self).__name__
        check_floating(owner, x_seq)
        check_sequence(owner, x_seq)
        self._check_weights()
        if len(x_seq) != steps:
            raise ShapeError(
                f"{owner} was made for T={steps} steps, got {len(x_seq)}: the input has the shape "
                f"{dims(x_seq.shape, 'TN')}. Give it sequences of that length or make one with T={len(x_seq)}."
            )


def _of_steps(steps: int) -> dict[str, list[tuple[int, ...]]]:
    """The shapes where every step has weights of its own."""
    return {"weight": [(steps, steps)], "bias": [(steps, 1), (steps,)]}


def _learnable_square(steps: int) -> nn.Parameter:
    weight = torch.empty(steps, steps)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return nn.Parameter(weight)


class PSN(ParallelNeuron):
    r"""The parallel spiking neuron: every step sees the inputs of all $T$ steps, later ones included.

    $$H = W X + B, \quad W \in \mathbb{R}^{T \times T},\ B \in \mathbb{R}^{T} \qquad S = \Theta(H)$$

    - `T`: the number of steps, which is that of every sequence. It has no single-step mode and keeps no state.

    Fang et al., *Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies*
    (NeurIPS 2023).

    >>> node = PSN(T=2)
    >>> node.weight = nn.Parameter(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    >>> node(torch.tensor([[0.75], [1.5]])).flatten().detach()  # H = 1.125 - 1, 0.75 - 1
    tensor([1., 0.])
    """

    T: int = option(kind=int, at_least=1)
    surrogate_function: Surrogate = part(factory=ATan, kw_only=True)
    step_mode: str = option(default="m", kw_only=True)

    supported_step_modes = ("m",)
    _step_mode = "m"
    example: ClassVar[dict[str, Any]] = {"T": 4}

    def prepare(self) -> None:
        super().prepare()
        self.weight = _learnable_square(self.T)
        self.bias = nn.Parameter(torch.full((self.T, 1), -1.0))

    def _shapes(self) -> dict[str, list[tuple[int, ...]]]:
        return _of_steps(self.T)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        self._check_steps(x_seq, self.T)
        return self._fire(self.weight, self.bias, wide(x_seq), x_seq.dtype)


class MaskedPSN(ParallelNeuron):
    r"""A parallel spiking neuron that comes to see its last $k$ inputs alone, as $\lambda$ goes from 0 to 1.

    $$H = (W \odot M_k(\lambda)) X + B \qquad M_k(\lambda) = \lambda\, M_k + (1 - \lambda)\, 1, \qquad
      M_k[t, j] = 1 \text{ if } t - k < j \le t, \text{ else } 0$$

    - `k`: the inputs that a step sees at $\lambda = 1$; at most `T`, the steps of a sequence.
    - `lambda_init`: $\lambda$ at the start. `lambda_` is read and assigned while training, and is in the `state_dict`.

    Single steps need $\lambda = 1$, since a step cannot see later inputs; at most T of them follow a `reset()`. The
    last $k - 1$ inputs are its state. Fang et al., *Parallel Spiking Neurons* (NeurIPS 2023).

    >>> node = MaskedPSN(k=1, T=2, lambda_init=1.0, step_mode="m")
    >>> node.weight = nn.Parameter(torch.tensor([[2.0, 9.0], [9.0, 0.5]]))  # the 9s are masked
    >>> node(torch.tensor([[0.75], [1.5]])).flatten().detach()  # H = 1.5 - 1, 0.75 - 1
    tensor([1., 0.])
    """

    k: int = option(kind=int, at_least=1)
    T: int = option(kind=int, at_least=1)
    lambda_init: float = option(default=0.0)
    surrogate_function: Surrogate = part(factory=ATan, kw_only=True)
    step_mode: str = option(default="s", kw_only=True)

    example: ClassVar[dict[str, Any]] = {"k": 2, "T": 4, "lambda_init": 1.0}

    def prepare(self) -> None:
        super().prepare()
        if self.k > self.T:
            raise ValueError(f"MaskedPSN: k must be at most T, but got k={self.k} and T={self.T}.")
        self.lambda_ = self.lambda_init
        self.weight = _learnable_square(self.T)
        self.bias = nn.Parameter(torch.full((self.T, 1), -1.0))
        self.time_step: int
        self.queue: Tensor | None
        self.register_memory("time_step", 0)
        self.register_memory("queue", None)

    @property
    def lambda_(self) -> float:
        """How far the mask has closed: 0 for all inputs, 1 for the last `k`."""
        return self._lambda

    @lambda_.setter
    def lambda_(self, given: float) -> None:
        check_number("MaskedPSN", "lambda_", given, least=0, most=1)
        self._lambda = float(given)

    def _shapes(self) -> dict[str, list[tuple[int, ...]]]:
        return _of_steps(self.T)

    def masked_weight(self) -> Tensor:
        """The weights [T, T] under the mask."""
        return self.weight * (self._lambda * self._window() + (1 - self._lambda))

    def _matrix(self, steps: int) -> Tensor:
        weight, t = self.masked_weight(), self.time_step
        return weight if self.step_mode == "m" else weight[t : t + 1, max(0, t + 1 - self.k) : t + 1]

    def _window(self) -> Tensor:
        """Ones [T, T] where a step sees an input at lambda = 1."""
        return torch.ones_like(self.weight).tril().triu(1 - self.k)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        self._check_steps(x_seq, self.T)
        if self.time_step:
            raise StateError(
                f"MaskedPSN takes whole sequences in step_mode='m', but {self.time_step} single steps came before. "
                "Call functional.reset_net(net) first."
            )
        return self._fire(self.masked_weight(), self.bias, wide(x_seq), x_seq.dtype)

    def single_step_forward(self, x: Tensor) -> Tensor:
        t = self.time_step
        self._check_single(x, t)
        inputs = wide(x).unsqueeze(0)
        before = [] if self.queue is None else [self._queued(self.queue, x.shape).to(inputs)]
        inputs = torch.cat([*before, inputs])  # never the input itself, which is the caller's to change
        weight = self.masked_weight()[t : t + 1, t + 1 - len(inputs) : t + 1]
        self.time_step = t + 1
        self.queue = inputs[max(0, len(inputs) - self.k + 1) :]
        return self._fire(weight, self.bias[t], inputs, x.dtype).squeeze(0)

    def _check_single(self, x: Tensor, t: int) -> None:
        check_floating("MaskedPSN", x)
        self._check_weights()
        if self._lambda < 1:
            raise StateError(
                f"MaskedPSN sees later inputs while lambda_ is below 1 (now {self._lambda:.4g}), so it cannot run "
                "single steps. Set step_mode='m', or lambda_=1."
            )
        if t >= self.T:
            raise ShapeError(
                f"MaskedPSN was made for T={self.T} steps, got step {t + 1}. Call functional.reset_net(net) first."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The entries, also those of SpikingJelly, which has lambda and the masks as buffers."""
        if f"{prefix}_lambda_" in state_dict:
            mask, _ = (state_dict.pop(f"{prefix}{name}", None) for name in ("mask0", "mask1"))
            if mask is not None and not torch.equal(mask.to(self._window()), self._window()):
                warnings.warn(
                    f"MaskedPSN: the mask in the file is not that of k={self.k} and T={self.T}, with which this neuron "
                    "was made and which it keeps. Make it with the k of the network that was saved.",
                    stacklevel=2,
                )
            state_dict[f"{prefix}_extra_state"] = state_dict.pop(f"{prefix}_lambda_")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self._lambda, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.lambda_ = state.item()


class SlidingPSN(ParallelNeuron):
    r"""A parallel spiking neuron with the same weights at every step: a convolution over the last $k$ inputs.

    $$H_t = \sum_{i=0}^{k-1} W_{k-1-i} X_{t-i} + B \qquad S_t = \Theta(H_t), \qquad X_t = 0 \text{ for } t < 1$$

    - `k`: the inputs that a step sees; sequences may have any length.
    - `exp_init`: whether $W$ starts as $\ldots, \frac14, \frac12, 1$ (newest last) instead of at random.
    - `backend`: `'gemm'` sums by a matrix product over the sequence, fast for long windows; `'conv'` term by term,
      with memory and work in proportion to `k`, and equal in both step modes to the last bit.

    The last $k - 1$ inputs are its state, `queue`. Fang et al., *Parallel Spiking Neurons* (NeurIPS 2023).

    >>> node = SlidingPSN(k=2, step_mode="m")
    >>> node(torch.tensor([[0.75], [0.75], [0.25]])).flatten().detach()  # H = 0.75, 1.125, 0.625, less 1
    tensor([0., 1., 0.])
    """

    k: int = option(kind=int, at_least=1, at_most=LARGEST // 2)  # PyTorch counts those before now too
    exp_init: bool = option(default=True, kind=bool)
    surrogate_function: Surrogate = part(factory=ATan, kw_only=True)
    step_mode: str = option(default="s", kw_only=True)
    backend: str = option(default="gemm", choices=("gemm", "conv"))

    supported_backends: ClassVar[tuple[str, ...]] = ("gemm", "conv")
    example: ClassVar[dict[str, Any]] = {"k": 3}
    tells_of_its_past = False  # the queue holds inputs of modules before it

    def prepare(self) -> None:
        super().prepare()
        weight = 2.0 ** torch.arange(1 - self.k, 1)
        if not self.exp_init:
            nn.init.kaiming_uniform_(weight.unsqueeze(0), a=math.sqrt(5))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.tensor(-1.0))
        self.queue: Tensor | None
        self.register_memory("queue", None)

    def _shapes(self) -> dict[str, list[tuple[int, ...]]]:
        return {"weight": [(self.k,)], "bias": [(), (1,)]}

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating("SlidingPSN", x)
        return self._run(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        check_floating("SlidingPSN", x_seq)
        check_sequence("SlidingPSN", x_seq)
        return self._run(x_seq)

    def _run(self, x_seq: Tensor) -> Tensor:
        self._check_weights()
        queue, new, before = self.queue, wide(x_seq), self.k - 1
        if queue is None and self.backend == "gemm":  # a product with what nothing came before need not be computed
            weight, zeros = self._matrix(len(new)), new.new_zeros(max(0, before - len(new)), *new.shape[1:])
            self.queue = torch.cat([zeros, new[max(0, len(new) - before) :]])
            return self._fire(weight, self.bias, new, x_seq.dtype)
        if queue is None:
            queue = new.new_zeros(before, *x_seq.shape[1:])
        inputs = torch.cat([self._queued(queue, x_seq.shape[1:]).to(new), new])
        self.queue = inputs[len(x_seq) :].clone()  # a view would keep the whole sequence
        if self.backend == "gemm":
            return self._fire(self.gen_gemm_weight(len(x_seq)), self.bias, inputs, x_seq.dtype)
        weight = self.weight.to(new.dtype)
        terms = (w * inputs[i : i + len(x_seq)] for i, w in enumerate(weight.unbind()))
        h = sum(terms, self.bias.to(new.dtype))
        return self.surrogate_function(h).to(x_seq.dtype)

    def implementation(self, x: Tensor) -> Plan:
        conv = Plan("torch", "backend='conv' sums term by term; 'gemm' has a kernel")
        return conv if self.backend == "conv" else super().implementation(x)

    def _matrix(self, steps: int) -> Tensor:
        return self.gen_gemm_weight(steps)[:, self.k - 1 if self.queue is None else 0 :]

    def gen_gemm_weight(self, T: int) -> Tensor:
        """The weights as a matrix [T, k - 1 + T] that applies them at every step."""
        steps = torch.arange(T + self.k - 1, device=self.weight.device)
        age = steps - steps[:T].unsqueeze(1)
        return torch.where((age >= 0) & (age < self.k), self.weight[age.clamp(0, self.k - 1)], 0.0)
