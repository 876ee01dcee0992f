"""What a monitor must know of neurons that are not ours."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from ...form import tensors_of
from ...sockets import Signal

__all__ = ["Adapter"]


class Adapter:
    """What a monitor must know of a kind of modules; this one is of neurons that take single steps.

    - `library`, `classes`: the package and the names of the classes that begin it, with all that derive from them.
    - `reset`: the line of code that puts the state of a network back. `neurons`: whether these are neurons at all.
    """

    library: ClassVar[str] = ""
    classes: ClassVar[tuple[str, ...]] = ()
    reset: ClassVar[str] = "# put the state of the network back"
    neurons: ClassVar[bool] = True

    def spikes(self, module: nn.Module) -> str | None:
        """The path to the spikes in what the module gives, where that is not a tensor alone; None without spikes."""
        return "0"

    def potential(self, module: nn.Module) -> Signal | str:
        """Where the potential after a call is; or why it cannot be had."""
        return "it tells no potential"

    def threshold(self, module: nn.Module) -> str | None:
        """The name of the threshold."""
        return None

    def in_sequences(self, module: nn.Module) -> bool:
        """Whether a call is a sequence, and not a step."""
        return False

    def axes(self, module: nn.Module) -> tuple[int, ...]:
        """The axes of the shortest call before those of neurons: of steps and samples."""
        return (1, 1) if self.in_sequences(module) else (1,)

    def time_first(self, module: nn.Module, value: Tensor, kind: str) -> Tensor:
        """A value of a sequence as `[T, N, *]`."""
        return value

    def held(self, module: nn.Module) -> Any:
        """The state that the module keeps as attributes."""
        return None

    def keeps(self, module: nn.Module) -> bool:
        """Whether a call goes on with the state that the module keeps, and not with one that is passed to it."""
        return self.held(module) is not None

    def binary(self, module: nn.Module) -> bool:
        """Whether spikes are 0 and 1."""
        return False

    def most(self, module: nn.Module) -> int:
        """How many spikes a neuron may give in a step."""
        return 1

    def check(self, module: nn.Module, ran: bool) -> None:
        """Refuse a module that is not as was said: before anything is recorded, and when it `ran`."""

    def rest(self, module: nn.Module) -> None:
        """Put the state of a copy back."""
        for held in tensors_of(self.held(module)):
            held.detach().zero_()
