"""Containers: how the modules inside see time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..base import MemoryModule, MultiStepModule, StepModule
from ..errors import ShapeError, check_floating, check_sequence, check_switches, check_whole, dims
from ..internals import runs_otherwise
from ..sockets import is_watched
from .fold import apply_folded, loop_over_time, over_time
from .norm import BatchNorm
from .stateless import Stateless, check_axes, registry

__all__ = [
    "ElementWiseRecurrentContainer",
    "LinearRecurrentContainer",
    "MultiStepContainer",
    "SeqToANNContainer",
    "StepModeContainer",
]

_POINTWISE = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU),
    *(nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink),
    *(nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold),
)


def _keeps_samples_apart(module: nn.Module) -> bool:
    """Whether each sample of the output is known to depend on that sample of the input alone, and no monitor counts."""
    known = {*_POINTWISE, *_axes()}
    if type(module) not in known or runs_otherwise(module) or is_watched(module):
        return False
    return not (isinstance(module, nn.Flatten) and module.start_dim <= 0)


def _axes() -> dict[type[nn.Module], tuple[str, ...]]:
    """The axes of one step for every class of the table, PyTorch's and ours."""
    return {held: made.axes for made in registry.values() for held in (made.torch_class, made)}


_SAID = "_said_that_it_is_folded"  # an attribute of a module that keeps a state


def _check_inside(container: nn.Module) -> None:
    """Refuse children that see time themselves."""
    for name, module in container.named_modules():
        if module is not container and isinstance(module, StepModule) and module.step_mode != "s":
            raise ValueError(
                f"{type(container).__name__} hands single steps to the modules inside, but {name} "
                f"({type(module).__name__}) has step_mode={module.step_mode!r}. Set its step_mode to 's', or take it "
                "out of the container."
            )


def check_folded(owner: str, modules: Sequence[nn.Module]) -> list[StepModule]:
    """Warn, once, of a module that keeps a state where T steps of N samples are one call.

    It runs as if the T*N samples were one step, or that many steps with `step_mode='m'`: time and samples are mixed.
    Layers without a state that are set to sequences are given back, for `as_single_steps`; other modules that see time
    themselves are refused.
    """
    found = [held for place, module in enumerate(modules) for held in module.named_modules(prefix=str(place))]
    stateful = [module for _, module in found if isinstance(module, MemoryModule)]
    inside = {held for node in stateful for held in node.modules()}
    layers: list[StepModule] = []
    for name, module in found:
        if module in inside or not isinstance(module, StepModule) or module.step_mode == "s":
            continue
        if isinstance(module, (Stateless, BatchNorm)) and "s" in module.supported_step_mode():
            layers.append(module)
        else:
            raise ValueError(
                f"{owner} hands [T*N, *] to the modules inside, but {name} ({type(module).__name__}) has "
                f"step_mode={module.step_mode!r}. Set its step_mode to 's', or apply it outside."
            )
    if stateful and not torch.compiler.is_compiling() and not vars(stateful[0]).get(_SAID):
        node = stateful[0]
        vars(node)[_SAID] = True
        seen = "one step" if node.step_mode == "s" else "T*N steps"
        warnings.warn(
            f"{owner} runs the modules inside once on [T*N, *]: {type(node).__name__}, which keeps a state, takes that "
            f"for {seen}, and mixes time and samples. If it is to see T steps, set its step_mode to 'm' and apply it "
            "outside, or use MultiStepContainer, StepModeContainer(True, ...) or multi_step_forward.",
            stacklevel=3,
        )
    return layers


def as_single_steps(layers: Sequence[StepModule], function: Callable[..., Any], *args: Any) -> Any:
    """`function` while `layers`, which are set to sequences, take what they get for one step."""
    for module in layers:
        module.step_mode = "s"
    try:
        return function(*args)
    finally:
        for module in layers:
            module.step_mode = "m"


class _Row(MultiStepModule, nn.Sequential):
    """Modules in a row that a container of sequences runs, with the names that they had when it held them in one."""

    owns_children_step_mode = True

    @property
    def module(self) -> nn.Module:
        """What is inside, as one module: the only child, or all of them in an `nn.Sequential` with the same places."""
        if len(self) == 1:
            return self[0]
        row = nn.Sequential()
        row._modules = self._modules
        return row

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The entries, also under the names of when all was in a child named `module`."""
        if "module" not in self._modules:
            own = {name for name, _ in _entries(self)}
            for key in [key for key in state_dict if key.startswith(f"{prefix}module.")]:
                name = key.removeprefix(f"{prefix}module.")
                first = next(iter(self._modules), "")
                name = name if name in own or len(self) != 1 else f"{first}.{name}"
                state_dict.setdefault(prefix + name, state_dict.pop(key))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _entries(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a module has in its `state_dict`, parameters and buffers, by name."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


class SeqToANNContainer(_Row):
    """Stateless modules in a row, run once on `[T*N, *]`: a sequence `[T, N, *]` goes in and comes out.

    A layer of ours without a state takes that for one step, whatever its `step_mode`. A module that keeps a state
    takes it for one step, or for T*N steps with `step_mode='m'`, with one warning.

    A sequence that repeats one frame is computed once where all modules are known to keep samples apart, with no hook
    that could mix them and no monitor that counts them: the classes of `layer.stateless` and of PyTorch that these are
    made of, and pointwise activations.

    >>> SeqToANNContainer(nn.Conv2d(1, 2, 3), nn.ReLU())(torch.zeros(4, 3, 1, 5, 5)).shape
    torch.Size([4, 3, 2, 3, 3])
    """

    def forward(self, x_seq: Tensor) -> Any:
        """A sequence `[T, N, *]`."""
        check_sequence(type(self).__name__, x_seq, least=2)
        layers = check_folded(type(self).__name__, list(self))
        if all(_keeps_samples_apart(module) for module in self):
            return as_single_steps(layers, over_time, self, self._apart, (x_seq,), {})
        return as_single_steps(layers, apply_folded, super().forward, x_seq)

    def _apart(self, x: Tensor) -> Any:
        """The modules in a row; many would take an input without the axis N for one sample of another shape."""
        axes = _axes()
        for module in self:
            if type(module) in axes:
                check_axes(type(module).__name__, x, axes[type(module)], "s")
            x = module(x)
        return x


class MultiStepContainer(_Row):
    """Single-step modules in a row, run T times and stacked: a sequence `[T, N, *]` goes in and comes out.

    >>> node = spikescope.neuron.IFNode(v_reset=None)
    >>> MultiStepContainer(nn.Flatten(), node)(torch.full((3, 1, 1, 1), 0.5)).flatten()  # V = 0.5, 1, 0.5
    tensor([0., 1., 0.])
    """

    def forward(self, x_seq: Tensor) -> Tensor:
        """A sequence `[T, N, *]`."""
        _check_inside(self)
        return loop_over_time(super().forward, x_seq)


class StepModeContainer(StepModule, nn.Sequential):
    """Single-step modules in a row with a step mode around them.

    `step_mode='s'` runs them as they are. `step_mode='m'` runs them T times if `stateful`, once on `[T*N, *]` if not,
    as a `SeqToANNContainer` does. The step mode may also stand before the modules.

    >>> net = StepModeContainer(True, spikescope.neuron.IFNode(v_reset=None))
    >>> net.step_mode = "m"
    >>> net(torch.full((3, 1), 0.5)).flatten()
    tensor([0., 1., 0.])
    """

    owns_children_step_mode = True

    def __init__(self, stateful: bool, *args: Any, step_mode: str = "s") -> None:
        if not isinstance(stateful, bool):
            raise TypeError(
                f"StepModeContainer: stateful, the first argument, must be True or False, but got {stateful!r}."
            )
        if args and isinstance(args[0], str):
            step_mode, args = args[0], args[1:]
        super().__init__(*args)
        self.stateful = stateful
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Any:
        """One step `[N, *]` or one sequence `[T, N, *]`, by `step_mode`."""
        if self._step_mode == "m" and not self.stateful:
            layers = check_folded(type(self).__name__, list(self))
            return as_single_steps(layers, apply_folded, super().forward, x)
        _check_inside(self)
        return super().forward(x) if self._step_mode == "s" else loop_over_time(super().forward, x)

    def extra_repr(self) -> str:
        return f"stateful={self.stateful}, step_mode={self.step_mode}"


class ElementWiseRecurrentContainer(MemoryModule):
    r"""Feedback through an element-wise function: $y_t = M(f(y_{t-1}, x_t))$ with $y_0 = 0$.

    - `sub_module`: $M$, in single steps; its output has the shape of its input.
    - `element_wise_function`: $f$, called as `f(y, x)`. A function that pickle finds by name keeps the network
      picklable; a lambda does not.

    The state is `y`; `reset()` clears it, and `functional.reset_net` also resets $M$.

    >>> net = ElementWiseRecurrentContainer(nn.Identity(), torch.add, step_mode="m")
    >>> net(torch.tensor([[1.0], [2.0], [3.0]])).flatten()
    tensor([1., 3., 6.])
    """

    owns_children_step_mode = True
    wide_state = False
    zero_at_rest = frozenset({"y"})

    y: Tensor | None

    def __init__(
        self,
        sub_module: nn.Module,
        element_wise_function: Callable[[Tensor, Tensor], Tensor],
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.sub_module = sub_module
        self.element_wise_function = element_wise_function
        self.register_memory("y", None)
        self.step_mode = step_mode

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, x)
        _check_inside(self)
        held = self.fitting("y", x.shape)
        y = torch.zeros_like(x) if held is None else held.to(x.dtype)
        y = self.sub_module(self.element_wise_function(y, x))
        if y.shape != x.shape:
            raise ShapeError(
                f"ElementWiseRecurrentContainer joins its output to its input, which must have the same shape, but "
                f"{dims(x.shape, 'N')} came in and {dims(y.shape, 'N')} out. Use LinearRecurrentContainer for a "
                "sub_module that changes the shape."
            )
        self.y = y
        return y


class LinearRecurrentContainer(MemoryModule):
    r"""Feedback through a linear layer: $y_t = M(W [x_t, y_{t-1}] + b)$ with $y_0 = 0$.

    - `sub_module`: $M$, in single steps, from `[N, *, in_features]` to `[N, *, out_features]`.
    - `in_features`, `out_features`: the sizes of $x_t$ and $y_t$; $W$ is `rc`, from their sum to `in_features`.
    - `bias`: whether there is a $b$.

    The state is `y`; `reset()` clears it, and `functional.reset_net` also resets $M$.

    >>> net = LinearRecurrentContainer(nn.Identity(), 1, 1, bias=False, step_mode="m")
    >>> _ = net.load_state_dict({"rc.weight": torch.tensor([[1.0, 0.5]])})
    >>> net(torch.tensor([[[2.0]], [[1.0]]])).detach().flatten()  # 2, 1 + 2/2
    tensor([2., 2.])
    """

    owns_children_step_mode = True
    wide_state = False
    zero_at_rest = frozenset({"y"})

    y: Tensor | None

    def __init__(
        self,
        sub_module: nn.Module,
        in_features: int,
        out_features: int,
        bias: bool = True,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.in_features = check_whole("LinearRecurrentContainer", "in_features", in_features)
        self.out_features = check_whole("LinearRecurrentContainer", "out_features", out_features)
        check_switches("LinearRecurrentContainer", bias=bias)
        both = self.in_features + self.out_features
        check_whole("LinearRecurrentContainer", "in_features + out_features", both)
        self.rc = nn.Linear(both, self.in_features, bias)
        self.sub_module = sub_module
        self.register_memory("y", None)
        self.step_mode = step_mode

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, x)
        _check_inside(self)
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"LinearRecurrentContainer takes steps of [N, *, {self.in_features}], but got {dims(x.shape, 'N')}."
            )
        before = torch.Size((*x.shape[:-1], self.out_features))
        held = self.fitting("y", before)
        y = x.new_zeros(before) if held is None else held.to(x.dtype)
        y = self.sub_module(self.rc(torch.cat((x, y), -1)))
        if y.shape != before:
            raise ShapeError(
                f"LinearRecurrentContainer: the output of sub_module must be {dims(before, 'N')}, as out_features="
                f"{self.out_features} says, but it is {dims(y.shape, 'N')}."
            )
        self.y = y
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {super().extra_repr()}"
