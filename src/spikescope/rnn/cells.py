"""Recurrent cells, one step at a time: the equations, each once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..dynamics.recurrent import Cell, Function, Gates, Joined, loop, run_kernels
from ..errors import ShapeError, check_floating, check_switches, check_tensor, check_whole, dims
from ..fields.readings import told_now
from ..internals import runs_otherwise
from ..layer.online import with_gradient_of
from ..sockets import is_watched
from ..surrogate import Erf, Surrogate

__all__ = ["SpikingGRUCell", "SpikingLSTMCell", "SpikingRNNCellBase", "SpikingVanillaRNNCell"]

F = TypeVar("F", bound=Callable[..., Any])


def by_equations(forward: F) -> F:
    """Mark a `forward` that does what the equations of its cell say."""
    forward.by_equations = True  # type: ignore[attr-defined]
    return forward


class SpikingRNNCellBase(nn.Module):
    """Base of the cells: two linear layers, `linear_ih` of the input and `linear_hh` of the last output.

    Weights and biases start uniform between $-1/\\sqrt{H}$ and $1/\\sqrt{H}$ for a hidden size H, as those of
    PyTorch's cells do. The `state_dict` has `linear_ih.weight` `[gates * H, input_size]`, `linear_hh.weight`
    `[gates * H, H]`, and a `bias` `[gates * H]` of each; the gates lie in PyTorch's order, so that `weight_ih`,
    `weight_hh`, `bias_ih` and `bias_hh` of a PyTorch cell fit.

    A subclass says how many `gates` and which `states` it has, and writes `step`; or its `equations`, pure and
    pointwise, with the surrogates that they call and the options that they read. From these come the step, and on a CPU
    kernels for whole sequences with the same spikes.

    Or it writes `forward(x, states)`, one step of whatever layers it makes itself, and calls `reset_parameters` when
    they are there; without `gates` it gets none. Then a layer of such cells calls it step by step.

    >>> class Gated(SpikingRNNCellBase):
    ...     def __init__(self, input_size, hidden_size, bias=True):
    ...         super().__init__(input_size, hidden_size, bias)
    ...         self.linear_ih = nn.Linear(input_size, hidden_size, bias)
    ...         self.reset_parameters()
    ...     def forward(self, x, h=None):
    ...         return Erf()(self.linear_ih(x) if h is None else self.linear_ih(x) - h)
    >>> Gated(3, 2)(torch.rand(5, 3)).shape
    torch.Size([5, 2])
    """

    gates: ClassVar[int] = 0
    states: ClassVar[tuple[str, ...]] = ("h",)  # the first one is the output
    by_forward: ClassVar[bool] = False  # whether a step is what `forward` says, and no equations

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.by_forward = cls.forward is not nn.Module.forward and not hasattr(cls.forward, "by_equations")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__()
        owner = type(self).__name__
        input_size = check_whole(owner, "input_size", input_size)
        hidden_size = check_whole(owner, "hidden_size", hidden_size)
        check_switches(owner, bias=bias)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        if not self.gates:
            if not self.by_forward:
                raise TypeError(f"{owner} is no cell: a subclass writes forward(x, states), or gates and equations.")
            return
        rows = check_whole(owner, f"{self.gates} * hidden_size", self.gates * hidden_size)
        self.linear_ih = nn.Linear(input_size, rows, bias)
        self.linear_hh = nn.Linear(hidden_size, rows, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        own = (*self.linear_ih.parameters(), *self.linear_hh.parameters()) if self.gates else self.parameters()
        for held in own:
            nn.init.uniform_(held, -bound, bound)

    def weight_ih(self) -> Tensor:
        """The weights from the input to the gates."""
        return self.linear_ih.weight

    def weight_hh(self) -> Tensor:
        """The weights from the last output to the gates."""
        return self.linear_hh.weight

    def bias_ih(self) -> Tensor | None:
        """The bias of `linear_ih`, if there is one."""
        return self.linear_ih.bias

    def bias_hh(self) -> Tensor | None:
        """The bias of `linear_hh`, if there is one."""
        return self.linear_hh.bias

    @staticmethod
    def equations(
        options: Any, functions: Sequence[Function], drive: Gates, feedback: Gates, states: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """The next states, from `linear_ih` of the input, `linear_hh` of the last output, and the states before."""
        raise NotImplementedError("a cell defines equations(options, functions, drive, feedback, states), or a step")

    def surrogates(self) -> tuple[Surrogate, ...]:
        """The functions that the equations call."""
        return ()

    def options(self) -> tuple[Any, ...]:
        """What else the equations read."""
        return ()

    def step(self, drive: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The next states, from `drive`, which is `linear_ih` of the input, and the states before."""
        feedback = Joined(self.linear_hh(states[0]), self.hidden_size)
        joined = Joined(drive, self.hidden_size)
        h, *others = self.equations(self.options(), self.surrogates(), joined, feedback, states)
        return h.to(states[0].dtype), *others

    def as_kernel(self) -> tuple[Cell, list[float]] | None:
        """What kernels are made of, and the numbers of its surrogates; None where calls of modules do more."""
        cls, surrogates = type(self), self.surrogates()
        changed = cls.step is not SpikingRNNCellBase.step or "step" in self.__dict__ or "equations" in self.__dict__
        read = told_now(cls)
        if changed or read is None or type(self.linear_hh) is not nn.Linear or _is_observed(self.linear_hh):
            return None
        forms, numbers = [], []
        for surrogate in surrogates:
            form, values = surrogate.form, surrogate.values(surrogate)
            if form is None or not surrogate.as_written or is_watched(surrogate):
                return None
            if not surrogate.pointwise or any(kind != "n" for kind, _ in values):
                return None
            forms.append(form)
            numbers += [number for _, number in values]
        sizes = self.gates, len(self.states), "n" * len(numbers)
        return Cell(cls.__name__, cls.equations, self.options(), tuple(forms), *sizes, read), numbers

    @classmethod
    def rest(cls, x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """States of zeros for the input `x`. The output has its dtype; what is state alone is float32 at least."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return tuple(x.new_zeros(shape, dtype=wide if number else x.dtype) for number in range(len(cls.states)))

    def _run(self, x: Tensor, states: Any) -> tuple[Tensor, ...]:
        """The states after one step `x` from these, or from zeros."""
        owner = type(self).__name__
        check_floating(owner, x)
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ShapeError(f"{owner} takes one step [N, input_size={self.input_size}], but got {dims(x.shape, 'N')}.")
        shape = (len(x), self.hidden_size)
        held = self.rest(x, shape)
        if states is not None:
            held = check_states(owner, self.states, states, shape, "[N, hidden_size]")
        drive = self.linear_ih(x)
        out = self._by_kernels(drive.unsqueeze(0), held)
        return self.step(drive, held) if out is None else out[1:]

    def run(
        self, x_seq: Tensor, states: tuple[Tensor, ...], backwards: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs `[T, N, H]` of all steps, taken from the last one if `backwards`, and the states at the end."""
        if self.by_forward:
            y, *ends = loop(self._called, x_seq, states, backwards)
            return y, tuple(ends)
        drive = self.linear_ih(x_seq)  # all steps at once: this part does not wait for the spikes
        out = self._by_kernels(drive, states, backwards)
        if out is None:
            out = loop(self.step, drive, states, backwards)
        return out[0], out[1:]

    def _called(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The states after one step, by a `forward` that a subclass has written."""
        out = self(x, states if len(states) > 1 else states[0])
        held = out if isinstance(out, tuple) else (out,)
        if len(held) != len(states):
            raise TypeError(
                f"{type(self).__name__}: forward takes {len(states)} states, so it must give {len(states)}, but gave "
                f"{len(held)}. How many there are, states_num() of the layer says."
            )
        return held

    def _by_kernels(
        self, drive: Tensor, states: tuple[Tensor, ...], backwards: bool = False
    ) -> tuple[Tensor, ...] | None:
        """What `loop` gives, where there are kernels with the same states."""
        if torch.compiler.is_compiling() or (made := self.as_kernel()) is None:
            return None
        return run_kernels(*made, drive, self.linear_hh.weight, self.linear_hh.bias, states, backwards)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}"


def check_states(
    owner: str, names: tuple[str, ...], given: Any, shape: tuple[int, ...], wanted: str
) -> tuple[Tensor, ...]:
    """The states as a tuple, or an error in words where they are too few or of another shape."""
    held = (given,) if len(names) == 1 and isinstance(given, Tensor) else given
    if not isinstance(held, (tuple, list)) or len(held) != len(names):
        what = "a tensor" if len(names) == 1 else f"a tuple ({', '.join(names)}) of tensors"
        came = f"{len(held)} of them" if isinstance(held, (tuple, list)) else type(given).__name__
        raise TypeError(f"{owner}: the states must be {what}, or None for zeros, but got {came}.")
    for name, state in zip(names, held, strict=True):
        check_tensor(owner, f"the state {name}", state)
        if state.shape != shape:
            raise ShapeError(
                f"{owner}: the state {name} must be {wanted} = {dims(shape)}, but got {dims(state.shape)}. "
                "A batch of another size starts from None."
            )
    return tuple(held)


def own_surrogate(owner: str, name: str, given: Surrogate | None) -> Surrogate:
    """The surrogate that was given, or one of its own, which is `Erf`."""
    if given is None:
        return Erf()
    if not isinstance(given, Surrogate):
        raise TypeError(f"{owner}: {name} must be a surrogate function, for example Erf(), but got {given!r}.")
    return given


def _is_observed(module: nn.Module) -> bool:
    """Whether a call of the module is more than its class says, or somebody listens to it."""
    return runs_otherwise(module) or is_watched(module)


class GatedCell(SpikingRNNCellBase):
    """Base of the cells with gates and a candidate, which may have a surrogate of its own."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        surrogate_function1: Surrogate | None = None,
        surrogate_function2: Surrogate | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        owner = type(self).__name__
        self.surrogate_function1 = own_surrogate(owner, "surrogate_function1", surrogate_function1)
        self.surrogate_function2 = (
            None if surrogate_function2 is None else own_surrogate(owner, "surrogate_function2", surrogate_function2)
        )
        self.candidate_function()

    def candidate_function(self) -> Surrogate:
        """The surrogate of the candidate; it must spike if that of the gates does."""
        gate, candidate = self.surrogate_function1, self.surrogate_function2
        if candidate is not None and gate.spiking != candidate.spiking:
            raise ValueError(
                f"{type(self).__name__}: surrogate_function1 and surrogate_function2 must both spike or neither, but "
                f"their `spiking` is {gate.spiking} and {candidate.spiking}. Use set_spiking_mode on both."
            )
        return gate if candidate is None else candidate

    def surrogates(self) -> tuple[Surrogate, ...]:
        return self.surrogate_function1, self.candidate_function()


class SpikingLSTMCell(GatedCell):
    r"""A long short-term memory whose gates are spikes.

    $$\begin{aligned} i, f, o &= \Theta_1(W_{\cdot x} x_t + b_{\cdot x} + W_{\cdot h} h_{t-1} + b_{\cdot h}) \qquad
      g = \Theta_2(W_{gx} x_t + b_{gx} + W_{gh} h_{t-1} + b_{gh}) \\
      c_t &= \min(f \odot c_{t-1} + i \odot g,\ 1) \qquad h_t = o \odot c_t \end{aligned}$$

    The bound keeps $c_t$ a spike; where gates spike, the gradient goes straight through it.

    - `surrogate_function1`: $\Theta_1$ of the gates; None makes an `Erf()`.
    - `surrogate_function2`: $\Theta_2$ of the candidate; None takes that of the gates.

    Lotfi Rezaabad and Vishwanath, *Long short-term memory spiking networks and their applications* (ICONS 2020).

    >>> cell = SpikingLSTMCell(1, 1, bias=False)
    >>> weights = torch.tensor([[1.0], [-1.0], [1.0], [0.0]])  # of i, f, g, o
    >>> _ = cell.load_state_dict({"linear_ih.weight": weights, "linear_hh.weight": torch.zeros(4, 1)})
    >>> h, c = cell(torch.tensor([[2.0], [-2.0]]))  # the first stores a 1; the second keeps what it had, a 0
    >>> h.detach().flatten(), cell(torch.tensor([[-2.0], [2.0]]), (h, c))[1].detach().flatten()
    (tensor([1., 0.]), tensor([1., 1.]))
    """

    gates = 4
    states = ("h", "c")
    highest: ClassVar[float] = 1.0  # the bound of c

    @by_equations
    def forward(self, x: Tensor, hc: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """`(h, c)` after one step `[N, input_size]`, from `hc`, both `[N, hidden_size]`, or from zeros."""
        h, c = self._run(x, hc)
        return h, c

    def options(self) -> tuple[Any, ...]:
        return self.highest, self.surrogate_function1.spiking

    @staticmethod
    def equations(
        options: Any, functions: Sequence[Function], drive: Gates, feedback: Gates, states: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        (highest, spiking), (gate, candidate), (_, c) = options, functions, states
        i, f, g, o = (drive + feedback).through(gate, gate, candidate, gate)
        charged = c * f + i * g
        c = charged.clamp(max=highest)
        if spiking:
            c = with_gradient_of(c, charged)
        return c * o, c


class SpikingGRUCell(GatedCell):
    r"""A gated recurrent unit whose gates are spikes.

    $$\begin{aligned} r, z &= \Theta_1(W_{\cdot x} x_t + b_{\cdot x} + W_{\cdot h} h_{t-1} + b_{\cdot h}) \\
      n &= \Theta_2(W_{nx} x_t + b_{nx} + r \odot (W_{nh} h_{t-1} + b_{nh})) \qquad
      h_t = (1 - z) \odot n + z \odot h_{t-1} \end{aligned}$$

    - `surrogate_function1`: $\Theta_1$ of the gates; None makes an `Erf()`.
    - `surrogate_function2`: $\Theta_2$ of the candidate; None takes that of the gates.

    Cho et al., *Learning phrase representations using RNN encoder-decoder* (EMNLP 2014), with spikes for gates.

    >>> cell = SpikingGRUCell(1, 1, bias=False)
    >>> weights = torch.tensor([[0.0], [-1.0], [1.0]])  # of r, z, n
    >>> _ = cell.load_state_dict({"linear_ih.weight": weights, "linear_hh.weight": torch.zeros(3, 1)})
    >>> h = cell(torch.tensor([[2.0], [-2.0]]))  # z = 0, 1: takes the candidate, keeps the 0
    >>> h.detach().flatten(), cell(torch.tensor([[-2.0], [-2.0]]), h).detach().flatten()
    (tensor([1., 0.]), tensor([1., 0.]))
    """

    gates = 3
    states = ("h",)

    @by_equations
    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """`h` after one step `[N, input_size]`, from `h` `[N, hidden_size]` or from zeros."""
        return self._run(x, h)[0]

    @staticmethod
    def equations(
        options: Any, functions: Sequence[Function], drive: Gates, feedback: Gates, states: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        (gate, candidate), (h,) = functions, states
        r, z = (drive.some(0, 2) + feedback.some(0, 2)).through(gate, gate)
        n = candidate(drive.one(2) + r * feedback.one(2))
        return ((1 - z) * n + z * h,)


class SpikingVanillaRNNCell(SpikingRNNCellBase):
    r"""Neurons that see their own last spikes: $h_t = \Theta(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})$.

    - `surrogate_function`: $\Theta$; None makes an `Erf()`.

    Elman, *Finding structure in time* (1990), with spikes for units.

    >>> cell = SpikingVanillaRNNCell(1, 1, bias=False)
    >>> weight = torch.tensor([[-1.0]])
    >>> _ = cell.load_state_dict({"linear_ih.weight": -weight, "linear_hh.weight": weight})
    >>> h = cell(torch.tensor([[0.5]]))
    >>> h.item(), cell(torch.tensor([[0.5]]), h).item()  # 0.5 fires, 0.5 - 1 does not
    (1.0, 0.0)
    """

    gates = 1
    states = ("h",)

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, surrogate_function: Surrogate | None = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.surrogate_function = own_surrogate(type(self).__name__, "surrogate_function", surrogate_function)

    @by_equations
    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """`h` after one step `[N, input_size]`, from `h` `[N, hidden_size]` or from zeros."""
        return self._run(x, h)[0]

    def surrogates(self) -> tuple[Surrogate, ...]:
        return (self.surrogate_function,)

    @staticmethod
    def equations(
        options: Any, functions: Sequence[Function], drive: Gates, feedback: Gates, states: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        return (functions[0]((drive + feedback).one(0)),)
