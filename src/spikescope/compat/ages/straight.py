"""The functions of `spikescope.quantize` as classes with `apply`, and small helpers of 0.0.0.0.14."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import quantize

__all__ = [
    "ceil_atgf",
    "clamp_atgf",
    "floor_atgf",
    "k_bit_quantize_atgf",
    "round_atgf",
    "step_quantize_atgf",
    "unpack_len1_tuple",
]


class Straight:
    """A function of `quantize`, called as `apply(x, ...)`."""

    of: ClassVar[Any]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The value, whose gradient is that of the function."""
        return cls.of(*args)


def _class(name: str) -> type[Straight]:
    function = getattr(quantize, name)
    about = f"`quantize.{name}` as a class: `{name}_atgf.apply(x, ...)`."
    return type(f"{name}_atgf", (Straight,), {"of": staticmethod(function), "__doc__": about, "__module__": __name__})


ceil_atgf = _class("ceil")
clamp_atgf = _class("clamp")
floor_atgf = _class("floor")
k_bit_quantize_atgf = _class("k_bit_quantize")
round_atgf = _class("round")
step_quantize_atgf = _class("step_quantize")


def unpack_len1_tuple(x: Any) -> Any:
    """What a tuple of one holds; all else as it is.

    >>> unpack_len1_tuple((3,)), unpack_len1_tuple((3, 4)), unpack_len1_tuple(5)
    (3, (3, 4), 5)
    """
    return x[0] if isinstance(x, tuple) and len(x) == 1 else x
