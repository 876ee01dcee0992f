"""The surrogate: a spike forwards, a smooth function's slope backwards. Everything but the two formulas."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, Never

import torch
from torch import Tensor

from ..errors import UnknownNameError, check_real, saved_tensors
from ..fields import Declared, option
from ..internals import (
    LeanFunction,
    in_compiled_derivatives,
    in_compiled_transform,
    in_forward_mode,
    is_undisturbed,
    runs_otherwise,
    takes_operations_alone,
)

__all__ = ["MultiArgsSurrogateFunctionBase", "Surrogate", "SurrogateFunctionBase", "heaviside"]

registry: dict[str, type[Surrogate]] = {}

_FORMULAS = ("gradient", "primitive", "spike", "fire")
_FUNCTIONS = ("spiking_function", "primitive_function", "forward", "__call__")


_NODES = (0.5 - 12**-0.5, 0.5 + 12**-0.5)
"""Where Gauss reads a function for its integral over 0 to 1: exact up to the third power, so for four derivatives."""


def heaviside(x: Tensor) -> Tensor:
    """The step function with the value 1 at 0, in the dtype of `x`.

    >>> heaviside(torch.tensor([-0.5, 0.0, 0.5]))
    tensor([0., 1., 1.])
    """
    return (x >= 0).to(x)


class Surrogate(Declared):
    """Base of all surrogate functions. A subclass writes two pure, pointwise formulas; defining it registers it.

    - `gradient(p, x)`: the slope used in place of the derivative of the step.
    - `primitive(p, x)`: the function with that slope, if there is one. It is what `spiking=False` computes.
    - `spike(p, x)`: the forward value, the Heaviside step unless the surrogate says otherwise.

    `p` holds the declared fields. They are read at every call, so that editing one acts on the next forward. A field
    that is a Parameter learns through the primitive: the gradient is that of `primitive` at the same point.
    """

    spiking: bool = option(default=True, kind=bool, kw_only=True)

    pointwise: ClassVar[bool] = True  # whether `spike` depends on nothing but its arguments
    example: ClassVar[dict[str, Any]] = {}  # values for the arguments that have no default
    _numbers: ClassVar[Signature]  # the fields, also those that the constructor makes of others
    _function: ClassVar[type[LeanFunction]]
    _forward_function: ClassVar[type[LeanFunction]]

    by_functions: ClassVar[bool] = False  # whether functions of x and numbers say what it computes, not formulas of p

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._function, cls._forward_function = _autograd_functions(cls)
        cls._numbers = Signature(
            [
                Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=spec.default)
                for name, spec in sorted(cls.fields.items(), key=lambda item: item[1].default is not Parameter.empty)
            ]
        )
        told = (
            name
            for base in cls.__mro__[: cls.__mro__.index(Surrogate)]
            for name in (*_FUNCTIONS, *_FORMULAS)
            if name in vars(base)
        )
        cls.by_functions = next(told, "") in _FUNCTIONS
        if not abstract:
            registry[cls.__name__] = cls

    @staticmethod
    def spike(p: Any, x: Tensor) -> Tensor:
        """The forward value."""
        return heaviside(x)

    @staticmethod
    def gradient(p: Any, x: Tensor) -> Tensor:
        """The slope at `x`."""
        raise NotImplementedError("a surrogate defines gradient(p, x)")

    @staticmethod
    def primitive(p: Any, x: Tensor) -> Tensor:
        """The function whose slope is `gradient`."""
        raise NotImplementedError("this surrogate is given by its gradient alone")

    @classmethod
    def has_primitive(cls) -> bool:
        """Whether `spiking=False` and learnable fields are possible."""
        if cls.by_functions:
            return any(name in vars(b) for b in cls.__mro__ for name in _FUNCTIONS[1:] if b not in Surrogate.__mro__)
        return cls.primitive is not Surrogate.primitive

    @classmethod
    def spiking_function(cls, x: Tensor, *values: Any, **named: Any) -> Tensor:
        """The spike of `x` with the fields `values`, in the order of `fields`, or by name."""
        return cls.fire(cls._valued(values, named), x)

    @classmethod
    def primitive_function(cls, x: Tensor, *values: Any, **named: Any) -> Tensor:
        """The primitive of `x` with the fields `values`, in the order of `fields`, or by name."""
        return cls.primitive(cls._valued(values, named), x)

    @classmethod
    def backward(cls, grad_output: Tensor, x: Tensor, *values: Any, **named: Any) -> Tensor:
        """The gradient of `x` where that of the spike is `grad_output`, with the fields `values` or by name."""
        return grad_output * cls.gradient(cls._valued(values, named), x)

    @classmethod
    def _valued(cls, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        bound = cls._numbers.bind(*values, **named)
        bound.apply_defaults()
        return cls.Params(**bound.arguments)

    def _reform(self) -> None:
        super()._reform()
        if type(self).by_functions:
            self._form = None  # no text tells what they compute

    def cuda_code(self, *args: Any, **kwargs: Any) -> Never:
        """Refused in words: SpikingJelly's surrogates give text for kernels that are written by hand."""
        raise NotImplementedError(
            f"{type(self).__name__} gives no CUDA text: kernels are derived from gradient(p, x), with the step of the "
            "neuron around it. Give the surrogate to a neuron, and backend='auto' has the kernel."
        )

    cuda_codes = cuda_code

    @property
    def as_written(self) -> bool:
        """Whether a call gives what the formulas say: no hook of somebody and no other `forward` comes in between."""
        return not (type(self).by_functions or runs_otherwise(self))

    @property
    def gives_spikes(self) -> bool:
        """Whether a call gives zeros and ones, and a one where its argument is not negative."""
        cls = type(self)
        heaviside_alone = cls.spike is Surrogate.spike and cls.fire.__func__ is Surrogate.fire.__func__  # type: ignore[attr-defined]
        return bool(self.spiking) and heaviside_alone and self.as_written

    @classmethod
    def fire(cls, p: Any, x: Tensor) -> Tensor:
        """The surrogate as a pure function of its fields: spike forwards, `gradient` backwards."""
        if not p.spiking:
            return cls.primitive(p, x)
        if not (
            torch.is_grad_enabled() or torch.compiler.is_compiling() or in_forward_mode() or takes_operations_alone()
        ):
            return cls.spike(p, x)  # a node of no graph would take longer than the spikes of a small layer
        tensors = [held for held in p if isinstance(held, Tensor)]
        constants = p._make([held.detach() if isinstance(held, Tensor) else held for held in p]) if tensors else p
        if not torch.compiler.is_compiling() and is_undisturbed(in_backward=True):
            y = cls._function.outside(x, constants)
        elif takes_operations_alone() or in_compiled_transform():
            y = cls._in_operations(constants, x)
        elif torch.compiler.is_compiling():
            y = cls.spike(constants, x.detach())
            if x.is_floating_point() and torch.is_grad_enabled():
                y = _Sloped.apply(x, y, cls.gradient(constants, x.detach()))
        else:
            y = (cls._forward_function if in_forward_mode() else cls._function).apply(x, constants)
        if tensors:
            hidden = in_compiled_transform() or in_forward_mode()  # there a tensor that learns does not say so
            if hidden or any(held.requires_grad for held in tensors):
                y = _learned_by(y, cls.primitive(p, x.detach()))
        return y

    @classmethod
    def _in_operations(cls, p: Any, x: Tensor) -> Tensor:
        """Spike and slope without an autograd function: a zero is added that has the gradient of the slope.

        Also under `no_grad`, where `torch.jit.trace` checks what it has traced: it must be the same graph.
        """
        y = cls.spike(p, x.detach())
        if torch.onnx.is_in_onnx_export():
            return y
        finite = x.detach().isfinite()
        h = torch.where(finite, x - x.detach(), torch.zeros_like(x))
        if in_compiled_derivatives():  # the integral of the slope from x to x + h has all the derivatives at h = 0
            low, high = (cls.gradient(p, x.detach() + node * h) for node in _NODES)
            zero = (0.5 * low + 0.5 * high) * h
        else:
            zero = cls.gradient(p, x.detach()) * h
        return y + torch.where(finite, zero, torch.zeros_like(zero))

    def forward(self, x: Tensor) -> Tensor:
        if type(self).by_functions:
            function = self.spiking_function if self.spiking else self.primitive_function
            return self._by_function(function, x)
        check_real(type(self).__name__, x)
        p = self.params()
        if any(isinstance(held, Tensor) for held in p):  # in the dtype of the state, as the fields of a neuron
            dtype = torch.promote_types(x.dtype, torch.float32)
            p = p._make(held.to(dtype) if isinstance(held, Tensor) else held for held in p)
        y = type(self).fire(p, x)
        return y.to(x.dtype) if x.is_floating_point() else y

    def _by_function(self, function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return function(x, *(getattr(self, name) for name in type(self).fields if name != "spiking"))

    def set_spiking_mode(self, spiking: bool) -> None:
        """True: spikes with a surrogate gradient. False: the primitive in both directions."""
        self.spiking = spiking

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The entries, also numbers that are fields here: the first SpikingJelly had its slopes in the files."""
        for name in type(self).dynamic:
            if prefix + name in state_dict and not isinstance(getattr(self, name), Tensor):
                setattr(self, name, state_dict.pop(prefix + name).item())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __setattr__(self, name: str, given: Any) -> None:
        if name in (*_FORMULAS, *_FUNCTIONS[:2]) and not type(self).by_functions:
            raise TypeError(
                f"{type(self).__name__}: {name} belongs to the class; one that is set on an instance would never be "
                "called. Write a subclass with it, or assign a forward."
            )
        if not type(self).has_primitive():
            learnable = isinstance(given, Tensor) and given.requires_grad and not type(self).by_functions
            if (name == "spiking" and given is False) or (name in type(self).dynamic and learnable):
                wish = "spiking=False" if name == "spiking" else f"a learnable {name}"
                raise UnknownNameError(
                    f"{type(self).__name__} is given by its gradient alone and has no primitive function, which "
                    f"{wish} needs. Surrogates that have one: "
                    f"{', '.join(sorted(k for k, s in registry.items() if s.has_primitive()))}."
                )
        super().__setattr__(name, given)


def _autograd_functions(cls: type[Surrogate]) -> tuple[type[LeanFunction], type[LeanFunction]]:
    """The autograd function of one surrogate, `apply(x, p)` with the fields as constants; and for forward mode."""

    class Fire(LeanFunction):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor, p: Any) -> Tensor:
            return cls.spike(p, x)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            x, p = inputs
            ctx.save_for_backward(x, *[v for v in p if isinstance(v, Tensor)])
            ctx.p = p._make([None if isinstance(v, Tensor) else (v,) for v in p])

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            return grads[0] * Fire.slope(ctx), None

        @staticmethod
        def slope(ctx: Any) -> Tensor:
            x, *tensors = saved_tensors(ctx, cls.__name__)
            rest = iter(tensors)
            return cls.gradient(ctx.p._make([next(rest) if v is None else v[0] for v in ctx.p]), x)

    class FireForward(Fire):
        """With a derivative in forward mode, and for that alone: `torch.compile` refuses a function that has one."""

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            Fire.setup_context(ctx, inputs, output)
            ctx.save_for_forward(*ctx.to_save)

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Tensor:
            found: Tensor = tangents[0] * Fire.slope(ctx)
            return found

    Fire.__name__ = Fire.__qualname__ = f"{cls.__name__}Fire"
    return Fire, FireForward


class _Sloped(torch.autograd.Function):
    """The spike `y` of `x`, whose gradient is that of the spike times `slope`.

    Of compiled code, which counts the numbers of a surrogate among what changes from call to call (`dynamic=True`):
    PyTorch cannot hand these to the backward passes of two functions. Its compiler decides what of the slope is kept.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
        return y.clone()  # where it ends with a to() that changes nothing, PyTorch 2.11 forgets the gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None, None


def _learned_by(y: Tensor, smooth: Tensor) -> Tensor:
    """The spike `y`; its gradient goes to the smooth function too, through which the fields learn."""
    if not (in_forward_mode() or takes_operations_alone() or in_compiled_transform()):
        learned: Tensor = _LearnedBy.apply(y, smooth)
        return learned
    zero = smooth - smooth.detach()
    return y + zero.masked_fill(zero != 0, 0.0)  # of infinite potentials the difference is no zero


class _LearnedBy(torch.autograd.Function):
    """`_learned_by` outside of forward mode, which it does not have: `torch.compile` refuses a function with one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, smooth: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        return None

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], grads[0]


class SurrogateFunctionBase(Surrogate, abstract=True):
    """Base of the surrogates with one number `alpha`.

    Beside the two formulas of `Surrogate`, a subclass may be written as two static functions: then these are what runs,
    in the eager loop of every neuron, and `alpha` may be anything that they take.

    >>> class Window(SurrogateFunctionBase):
    ...     @staticmethod
    ...     def spiking_function(x, alpha):
    ...         return spikescope.surrogate.rect.apply(x, alpha)
    ...     @staticmethod
    ...     def primitive_function(x, alpha):
    ...         return torch.clamp(alpha * x + 0.5, 0, 1)
    >>> window = Window(2.0, spiking=False)
    >>> window(torch.tensor([-1.0, 0.125])), window.alpha
    (tensor([0.0000, 0.7500]), 2.0)

    Functions of other numbers than `alpha` have them given by name, and take them so: after
    `super().__init__(spiking=spiking, low=low)` what runs is `spiking_function(x, low=low)`.
    """

    alpha: Any = option()

    named: tuple[str, ...] | None = None  # the numbers of the functions, where they are not `alpha` alone

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        by_name = cls.by_functions and cls.arguments.parameters["alpha"].default is Parameter.empty
        own = {name: kwargs.pop(name) for name in list(kwargs) if by_name and name not in cls.fields}
        without_alpha = by_name and "alpha" not in kwargs and (not args or isinstance(args[0], bool))
        super().__init__(*((None, *args) if without_alpha else args), **kwargs)
        if own or without_alpha:
            self.named = tuple(own) if without_alpha else ("alpha", *own)
            for name, held in own.items():
                setattr(self, name, held)
            self._check_functions()

    def _check_functions(self) -> None:
        """Refuse numbers that a function of the subclass does not take, or lacks."""
        cls, names = type(self), self.named or ()
        for name in _FUNCTIONS[:2]:
            function = getattr(cls, name)
            if getattr(function, "__func__", None) is getattr(Surrogate, name).__func__:
                continue  # it has none of its own
            try:
                signature(function).bind(None, **dict.fromkeys(names))
            except TypeError as error:
                given = ", ".join(names) or "no number"
                raise TypeError(
                    f"{cls.__name__}.{name}{signature(function)} is called with x and {given}, since these are what "
                    f"super().__init__ was given: {error}. Give it each number by its name."
                ) from None

    def _by_function(self, function: Callable[..., Tensor], x: Tensor) -> Tensor:
        if self.named is None:
            return super()._by_function(function, x)
        return function(x, **{name: getattr(self, name) for name in self.named})

    def extra_repr(self) -> str:
        if self.named is None:
            return super().extra_repr()
        return ", ".join(f"{name}={getattr(self, name)}" for name in (*self.named, "spiking"))


class MultiArgsSurrogateFunctionBase(Surrogate, abstract=True):
    """Base of the surrogates that keep their numbers as attributes of their own, and write `forward` themselves."""

    def __init__(self, spiking: bool = True, *args: Any, **kwargs: Any) -> None:
        super().__init__(spiking=spiking)
