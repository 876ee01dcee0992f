"""The exceptions of the library and the checks that raise them.

Every text says what came, what was wanted, and what to do about it.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from numbers import Integral, Real
from typing import Any, NamedTuple, Never, cast

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["BiasError", "MissingExtraError", "RecomputeError", "ShapeError", "StateError", "UnknownNameError"]


class ShapeError(ValueError):
    """A tensor whose shape does not fit."""


class StateError(RuntimeError, AttributeError):
    """A state that cannot be used: too old, of another network, or never made, so that `hasattr` says no."""


def absent(what: str, shape: Sequence[int], meta: bool) -> StateError:
    """The error for a state or a field that a mode or transform of PyTorch has left behind to an input with values.

    >>> print(absent("the state 'v'", (2,), meta=True))
    the state 'v' of shape [2] has no values: it is a meta tensor, left from another call, and the input is a tensor \
with values. Call functional.reset_net(net) from spikescope between the two; set a field anew.
    """
    kind = "a meta tensor" if meta else "a stand-in of FakeTensorMode, torch.compile or torch.func"
    return StateError(
        f"{what} of shape {list(shape)} has no values: it is {kind}, left from another call, and the input is a tensor "
        "with values. Call functional.reset_net(net) from spikescope between the two; set a field anew."
    )


class RecomputeError(RuntimeError):
    """A stateful module was run again inside the backward pass."""


class UnknownNameError(ValueError, NotImplementedError):
    """A method that there is not, by its name or what it would do: also the error that SpikingJelly raises."""


class BiasError(ValueError, AssertionError):
    """A layer with a bias where none can be: also the error that SpikingJelly raises."""


class MissingExtraError(ImportError):
    """An optional package is needed and not installed."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error for an optional package that is not installed.

    >>> print(missing_extra("matplotlib", "report", "Pictures"))
    Pictures need the package matplotlib, which is not installed. Install it with: pip install 'spikescope[report]'
    """
    return MissingExtraError(
        f"{purpose} need the package {package}, which is not installed. "
        f"Install it with: pip install 'spikescope[{extra}]'"
    )


def refuse_script(module: object) -> Never:
    """What `torch.jit.script` asks for: the module in a form that it can take."""
    raise TypeError(
        f"torch.jit.script cannot take {type(module).__name__} from spikescope, whose code is Python. Use "
        "torch.jit.trace, torch.export or torch.compile, or exchange.to_nir for other tools."
    )


def dims(shape: Iterable[int], names: str = "") -> str:
    """A shape with its leading axes named.

    >>> dims((4, 16, 128), "TN")
    '[T=4, N=16, 128]'
    """
    sizes = list(shape)
    labels = [f"{name}=" for name in names][: len(sizes)]
    labels += [""] * (len(sizes) - len(labels))
    return "[" + ", ".join(f"{label}{size}" for label, size in zip(labels, sizes, strict=True)) + "]"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that closes the refusal of a name: those of `known` that come near; empty if none does.

    >>> did_you_mean("lifnode", ["LIFNode", "PSN"]), did_you_mean("speed", ["tau"])
    (' Did you mean LIFNode?', '')
    """
    spelt = {held.lower(): held for held in known}
    close = get_close_matches(name.lower(), spelt, n=3)
    return f" Did you mean {' or '.join(spelt[held] for held in close)}?" if close else ""


_ELSEWHERE = {
    "Leaky": ("snnTorch", "neuron.LIFNode(tau=1 / (1 - beta), decay_input=False)"),
    "Lapicque": ("snnTorch", "neuron.LIFNode"),
    "RLeaky": ("snnTorch", "layer.LinearRecurrentContainer around a neuron"),
    "SLSTM": ("snnTorch", "rnn.SpikingLSTM"),
    "fast_sigmoid": ("snnTorch", "surrogate.SuperSpike"),
    "ce_rate_loss": ("snnTorch", "functional.rate_cross_entropy"),
    "ce_count_loss": ("snnTorch", "functional.count_cross_entropy"),
    "mse_count_loss": ("snnTorch", "functional.count_mse_loss"),
    "LIFBoxCell": ("Norse", "neuron.LIFNode(tau=1 / (dt * tau_mem_inv))"),
    "LIFCell": ("Norse", "neuron.CUBALIFNode"),
    "LIBoxCell": ("Norse", "neuron.NonSpikingLIFNode"),
    "SequentialState": ("Norse", "nn.Sequential, whose neurons keep their state"),
    "LIF": ("sinabs", "neuron.LIFNode(tau=1 / (1 - exp(-1 / tau_mem)), v_reset=None)"),
    "IAF": ("sinabs", "neuron.IFNode(v_reset=None)"),
    "ExpLeak": ("sinabs", "neuron.NonSpikingLIFNode"),
}
"""Names of other libraries, whose they are and what is here in their place; the page has all of them."""


def explain_absent(module: str) -> None:
    """Let the module of this name answer for a name that it has not, with those that come near.

    It gets a `__getattr__`; set from here, since the type checker takes one in its source to give every name.
    """
    held = vars(sys.modules[module])

    def refuse(name: str) -> Never:
        advice = ""
        if not name.startswith("_"):  # other names are asked for by tools, not by people
            library, here = _ELSEWHERE.get(name, ("", ""))
            near = did_you_mean(name, [key for key in held if not key.startswith("_")])
            near = f" What {library} calls {name} is {here} here: docs/moving/others.md." if library else near
            advice = f"{near} See dir({module}) for what is there, and docs/guide/moving.md for SpikingJelly's names."
        # without the module in the error, where Python would put a guess of its own behind ours
        raise AttributeError(f"module {module!r} has no attribute {name!r}.{advice}", name=name)

    held["__getattr__"] = refuse


def check_call(module: nn.Module, forward: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Refuse arguments that a forward with a state does not take, as a state that is given with the input.

    >>> node = spikescope.neuron.LIFNode()
    >>> check_call(node, node.single_step_forward, (torch.ones(1), torch.zeros(1)), {})
    Traceback (most recent call last):
    TypeError: LIFNode takes (x), but got 2 arguments, Tensor and Tensor. It keeps its state itself, as node.v, from ...
    """
    taken = signature(forward)
    try:
        taken.bind(*args, **named)
    except TypeError as error:
        kinds = [type(held).__name__ for held in args] + [
            f"{name}={type(held).__name__}" for name, held in named.items()
        ]
        came = f"{len(kinds)} argument{'s' * (len(kinds) > 1)}, {' and '.join(kinds)}" if kinds else "none"
        memories = " and ".join(f"node.{name}" for name, _ in cast(Any, module).named_memories())
        kept = f" It keeps its state itself, as {memories}, from call to call until reset()." if memories else ""
        wanted = ", ".join(taken.parameters)
        raise TypeError(f"{type(module).__name__} takes ({wanted}), but got {came}.{kept}") from error


def check_listening(owner: str, listening: bool) -> None:
    """Refuse a second block of what stopped listening at the end of the first: it would see nothing in silence."""
    if not listening:
        raise RuntimeError(
            f"This {owner} has stopped listening, and would see nothing of a second block. What it saw stays; for the "
            f"new block make a new one: `with {owner}(net) as watch:`."
        )


class Words(NamedTuple):
    """What to say of a backward pass that does not find what it needs.

    - `needs`: what that is; `carrier`: what may have brought the graph of an earlier call, `cure`: what to do then
    - `learns`: whether a weight is among it, which the optimizer changes in place
    """

    needs: str = "its input and its state"
    carrier: str = "the state has carried its graph along"
    cure: str = "call functional.reset_net(net) before each batch, or functional.detach_net(net)"
    learns: bool = False


OF_NEURON = Words()

OF_LAYER = Words(
    "its input, its weight and its bias",
    "the input has carried its graph along",
    "hand over x.detach()",
    learns=True,
)
"""Of what has no state."""

OF_POOL = OF_LAYER._replace(needs="its input", learns=False)


def changed_in_place(owner: str, words: Words = OF_NEURON) -> str:
    """What to say where a backward pass needs a value of a call that has been overwritten.

    >>> print(changed_in_place("LIFNode")[:69])
    The backward pass of LIFNode needs its input and its state as they we
    """
    weight = " A weight is changed by `optimizer.step()`: call it after backward()." if words.learns else ""
    return (
        f"The backward pass of {owner} needs {words.needs} as they were in the call, but one of them was changed in "
        "place afterwards, as x is by `y = node(x); x += y`. Write `x = x + y`, or hand over a copy, "
        f"`node(x.clone())`.{weight}"
    )


def walked_before(owner: str, words: Words = OF_NEURON) -> str:
    """What to say where a backward pass comes to a call whose graph is gone."""
    return (
        f"A backward pass came to {owner} of a call whose graph an earlier backward pass has freed. If that was "
        f"the one of the batch before, {words.carrier}: {words.cure} to go on without its past. To walk one graph "
        "twice, give retain_graph=True to the first backward()."
    )


def is_of_a_freed_graph(error: RuntimeError) -> bool:
    """Whether PyTorch says that what an autograd node has saved is gone."""
    return "backward through the graph a second time" in str(error)


def saved_tensors(ctx: Any, owner: str, words: Words = OF_NEURON) -> Any:
    """What an autograd node has saved; where it is gone or has been changed, the likely reason in words."""
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "modified" in str(error) and "inplace" in str(error):
            raise RuntimeError(changed_in_place(owner, words)) from error
        if not is_of_a_freed_graph(error):  # an activation checkpoint computes them anew
            raise
        raise RuntimeError(walked_before(owner, words)) from error


def watch_input(owner: str, y: Tensor, x: Tensor) -> None:
    """Say so in words when the backward pass of `y`, which needs `x`, finds that `x` has been changed in place.

    A kernel of ours says it by itself; this is for an operation of PyTorch, which cannot name the module.
    """
    if torch.compiler.is_compiling() or y.grad_fn is None:  # in this order: compiled code knows no grad_fn
        return
    held, version = weakref.ref(x if x._base is None else x._base), x._version  # a view of ours may be gone

    def check(grads: object) -> None:
        now = held()
        if now is not None and now._version != version:
            raise RuntimeError(changed_in_place(owner))

    y.grad_fn.register_prehook(check)


def check_choice(
    owner: str, name: str, value: object, choices: Iterable[object], error: type[ValueError] = ValueError
) -> None:
    """Refuse a value that is not one of `choices`."""
    wanted = list(choices)
    several = type(value).__hash__ is None or isinstance(value, Tensor)  # is compared entry by entry
    if several or value not in wanted:
        raise error(f"{owner}: {name} must be one of {', '.join(map(repr, wanted))}, but got {value!r}.")


LARGEST = 2**63 - 1
"""The largest number that PyTorch can count to."""

MANY = 2**16
"""More than that of what is made or done one by one, such as layers, would take for ever."""


def check_whole(owner: str, name: str, value: Any, least: int = 1, most: int = LARGEST) -> int:
    """The whole number, of whatever type; refuses anything but one of at least `least` and at most `most`."""
    number = int(value) if type(value) is not bool and isinstance(value, Integral) else least - 1
    if not least <= number <= most:
        bounds = f"at least {least}" + (f" and at most {most}" if most < LARGEST or number > most else "")
        raise ValueError(f"{owner}: {name} must be a whole number of {bounds}, but got {value!r}.")
    return number


def check_switches(owner: str, **given: Any) -> None:
    """Refuse anything but True and False, or 1 and 0: what stands for another argument is true as well, 0.5 and 's'."""
    for name, value in given.items():
        if not isinstance(value, (bool, Integral, np.bool_)) or value not in (0, 1):
            raise TypeError(f"{owner}: {name} must be True or False, but got {value!r}.")


def check_number(
    owner: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float = -math.inf,
    most: float = math.inf,
) -> None:
    """Refuse anything but a number in these bounds; NaN is in none."""
    number = float(value) if type(value) is not bool and isinstance(value, Real) else math.nan
    if not (least <= number <= most and (above is None or number > above)):
        low = f"above {above:g}" if above is not None else f"at least {least:g}" if least > -math.inf else ""
        high = f"at most {most:g}" if most < math.inf else ""
        bounds = " and ".join(filter(None, (low, high))) or "a number"
        raise ValueError(f"{owner}: {name} must be {bounds}, but got {value!r}.")


def check_bound(owner: str, name: str, value: Any, **bounds: Any) -> None:
    """The same, where a tensor of one is as good as a number; on the meta device it has no value."""
    single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    if not (single and value.is_meta):
        check_number(owner, name, value.item() if single else value, **bounds)


def check_window(owner: str, given: tuple[float, float]) -> tuple[float, float]:
    """The first and last number of a window, as `grad_window` gives them."""
    first, last = map(float, given)
    if not first <= last:
        raise ValueError(f"{owner}: grad_window must go from a lower to a higher number, but got {given!r}.")
    return first, last


def check_tensor(owner: str, name: str, value: object) -> None:
    """Refuse anything but a tensor."""
    if not isinstance(value, Tensor):
        if type(value).__module__.startswith("torch.fx."):
            raise TypeError(
                f"{owner} needs values, but torch.fx.symbolic_trace follows a network without any. Make the modules of "
                "spikescope leaves: a subclass of torch.fx.Tracer whose is_leaf_module(m, name) is also true where "
                "type(m).__module__ begins with 'spikescope.'; or use torch.export."
            )
        raise TypeError(f"{owner}: {name} must be a torch.Tensor, but got {type(value).__name__}.")


def check_floating(owner: str, x: object) -> None:
    """Refuse an input current that is not a floating point tensor."""
    if type(x) is Tensor and x.dtype is torch.float32 and x.layout is torch.strided and not x.is_nested:
        return  # what comes nearly always
    check_tensor(owner, "the input", x)
    assert isinstance(x, Tensor)
    check_dense(owner, x)
    if not x.is_floating_point() or x.dtype.itemsize < 2:
        few = " of 16 bits or more" if x.is_floating_point() else ""
        raise TypeError(
            f"{owner} integrates real numbers{few}, but got an input of dtype {x.dtype}. "
            "Convert it first, for example x.float()."
        )


def check_real(owner: str, x: object) -> None:
    """Refuse an input that is not a tensor of real numbers, whole ones included."""
    check_tensor(owner, "the input", x)
    assert isinstance(x, Tensor)
    check_dense(owner, x)
    if x.is_complex() or x.is_quantized or (x.is_floating_point() and x.dtype.itemsize < 2):
        raise TypeError(
            f"{owner} takes real numbers of 16 bits or more, or whole ones, but got an input of dtype {x.dtype}. "
            "Convert it first, for example with x.float(), or x.dequantize()."
        )


def check_dense(owner: str, x: Tensor) -> None:
    """Refuse a sparse or a nested tensor, and any other layout but PyTorch's usual."""
    if x.is_nested:
        raise TypeError(
            f"{owner} takes a dense tensor, but got a nested one, whose parts may differ in size. "
            "Pad them with x.to_padded_tensor(0.0)."
        )
    if x.layout is not torch.strided:
        raise TypeError(
            f"{owner} takes a dense tensor, but got one of layout {x.layout}. Convert it with x.to_dense()."
        )


def check_numbers(owner: str, x: Tensor) -> None:
    """Refuse a tensor whose numbers cannot be read one by one: a sparse one, and one that has none."""
    check_dense(owner, x)
    if x.is_meta:
        raise TypeError(
            f"{owner} takes a tensor with numbers in it, but got one on the device 'meta', which has a shape alone. "
            "Run the network on real data, on 'cpu' or a GPU."
        )


def check_sequence(owner: str, x_seq: Tensor, least: int = 1) -> None:
    """Refuse a sequence without its leading time axis."""
    if x_seq.ndim < least:
        raise ShapeError(
            f"{owner} in step_mode='m' takes a sequence [T, N, *] with time first, but got {dims(x_seq.shape)}. "
            "Add the time axis with x.unsqueeze(0), or set step_mode='s' for single steps."
        )


def check_rank(owner: str, x: Tensor, ranks: tuple[int, ...], wanted: str, step_mode: str) -> None:
    """Refuse an input whose number of axes does not fit the layer and its step mode."""
    if x.ndim not in ranks:
        lacks_time = step_mode == "m" and x.ndim + 1 in ranks
        raise ShapeError(
            f"{owner} in step_mode={step_mode!r} takes {wanted}, but got {dims(x.shape)} with {x.ndim} axes. "
            f"{'Add the time axis of a single step with x.unsqueeze(0). ' if lacks_time else ''}"
            "functional.set_step_mode(net, 's' or 'm') switches a whole network."
        )


def check_entry(owner: str, name: str, held: object) -> None:
    """Refuse an entry of a state that no step can go on from: it is no number, nor a tensor of numbers, nor None."""
    if isinstance(held, Tensor):
        check_dense(f"{owner}: {name}", held)
        if held.is_complex():
            raise TypeError(f"{owner}: {name} must be a tensor of real numbers, but got one of dtype {held.dtype}.")
    elif held is not None and not isinstance(held, (float, int, Real)):
        raise TypeError(
            f"{owner}: {name} must be a number or a tensor to go on from, but got {held!r}. "
            "functional.reset_net(net) gives it its value of the start."
        )


def check_state(
    owner: str, x_shape: torch.Size, state: Mapping[str, object], given: bool = False, cure: str = ""
) -> None:
    """Refuse to go on from a state that a batch of another shape left behind, or, if `given`, that cannot spread.

    - `cure`: what to do about it, where that is not to reset the network.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor) or not value.ndim or value.shape == x_shape:
            continue
        if not given:
            raise ShapeError(
                f"{owner} cannot go on from its stored state: the shapes differ.\n"
                f"  input of one step  {dims(x_shape, 'N')}\n"
                f"  state {name}       {dims(value.shape, 'N')}, left by the call before\n"
                f"{cure or _cure(owner, x_shape, value.shape)}"
            )
        if not _broadcasts(value.shape, x_shape):
            raise ShapeError(
                f"{owner}: {name} was set to a tensor {dims(value.shape)}, which does not broadcast to a step of the "
                f"input, {dims(x_shape, 'N')}. Give it the shape of the step, or one that spreads over it: a value per "
                "neuron of [N, C] has the shape [C], a value per channel of [N, C, H, W] the shape [C, 1, 1]."
            )


def _cure(owner: str, x_shape: torch.Size, left: torch.Size) -> str:
    reset = "Call functional.reset_net(net) before each batch of other samples, of this shape or another."
    if x_shape[:1] != left[:1]:
        return reset
    return (
        f"There are as many samples as before, of another shape: if this one {owner} is used at two places of the "
        f"network, give each place a {owner} of its own. If it is not: {reset}"
    )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def check_fits(owner: str, name: str, value: Tensor, x_shape: torch.Size) -> None:
    """Refuse a tensor field that does not broadcast to the shape of one step."""
    if _broadcasts(value.shape, x_shape):
        return
    raise ShapeError(
        f"{owner}: {name} has the shape {dims(value.shape)}, which does not broadcast to the input of one step, "
        f"{dims(x_shape, 'N')}. A value per channel of [N, C, H, W] has the shape [C, 1, 1]."
    )


def check_probability(owner: str, x: Tensor) -> None:
    """Refuse values that are no probabilities."""
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            f"{owner} takes x as the probability of a spike, which must be from 0 to 1, but got values from "
            f"{x.min().item():.4g} to {x.max().item():.4g}. Bring them there first, for example with x.clamp(0, 1)."
        )


def check_module(owner: str, net: object) -> None:
    """Refuse anything but a module."""
    if not isinstance(net, nn.Module):
        raise TypeError(
            f"{owner} takes an nn.Module, but got {type(net).__name__}. "
            "Several modules make one with nn.Sequential(...)."
        )
