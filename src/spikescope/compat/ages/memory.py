"""`base.MemoryModule` of the activation-based interface, which has a backend: what modules of one's own derive from."""

from __future__ import annotations

from ... import base
from ...base import backends_of
from ...errors import UnknownNameError, check_choice
from ...neuron.leniency import backend_here
from .wide import Wide

__all__ = ["MemoryModule"]


class MemoryModule(base.MemoryModule, metaclass=Wide):
    """`base.MemoryModule` with a `backend`, one of `supported_backends`, which a subclass may name more of.

    >>> MemoryModule().backend, MemoryModule().supported_backends
    ('torch', ('torch',))
    """

    stands_for = base.MemoryModule
    _backend = "torch"

    @property
    def supported_backends(self) -> tuple[str, ...]:
        """The backends that the module says it has."""
        return ("torch",)

    @property
    def backend(self) -> str:
        """What it runs by; one that is not here becomes `'torch'`, with a warning."""
        return self._backend

    @backend.setter
    def backend(self, given: str) -> None:
        owner = type(self).__name__
        here = backend_here(owner, given, "torch")
        check_choice(owner, "backend", here, dict.fromkeys((*backends_of(self), "torch")), UnknownNameError)
        self._backend = here

    def extra_repr(self) -> str:
        return f"step_mode={self.step_mode}, backend={self.backend}"
