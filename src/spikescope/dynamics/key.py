"""The key of a kernel: a text, which passes through `torch.compile` and operators as a constant.

`form|form|kinds`: the form of the neuron, the forms of its surrogates, and a letter for each number of the equations.

- `n`: a Python number
- `s`: a tensor of one element without axes
- `a`: a tensor with axes
- `m`: a number that compiled code hands over as a tensor, since it may change from call to call; see `moving.py`
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["joined_key", "kinds_of", "parted_key", "with_kinds"]

_SEPARATOR = "|"


def joined_key(forms: Iterable[str], kinds: str) -> str:
    """The key of these forms and kinds.

    >>> joined_key(["LIF", "Sigmoid"], "nns")
    'LIF|Sigmoid|nns'
    """
    return _SEPARATOR.join((*forms, kinds))


def parted_key(key: str) -> tuple[list[str], str]:
    """The forms and the kinds of a key.

    >>> parted_key("LIF|Sigmoid|nns")
    (['LIF', 'Sigmoid'], 'nns')
    """
    *forms, kinds = key.split(_SEPARATOR)
    return forms, kinds


def kinds_of(key: str) -> str:
    """The kinds of a key alone."""
    return key.rpartition(_SEPARATOR)[2]


def with_kinds(key: str, kinds: str) -> str:
    """The key of the same forms with other kinds.

    >>> with_kinds("LIF|Sigmoid|nns", "nna")
    'LIF|Sigmoid|nna'
    """
    return key.rpartition(_SEPARATOR)[0] + _SEPARATOR + kinds
