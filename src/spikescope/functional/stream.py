"""A network in a closed loop: one step at a time, as the world gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import nn

from ..base import StepModule
from ..errors import check_module
from ..internals import enable_gradients
from ..neuron.fast.row import Row
from .network import NetworkState, get_state, label, listed, outside_of_containers, reset_net, set_state
from .samples import reset_samples

__all__ = ["Stream", "stream"]


class Stream:
    """What `stream(net)` gives: `step` runs the network for one step and keeps its state, without gradients.

    - `net`: the network, whose parameters, modes and hooks act as they do in a call of its own
    - `state`: the state of all its modules as a value, that later steps leave as it is; assign one to go on from it
    """

    _row: Row | None = None

    def __init__(self, net: nn.Module) -> None:
        check_module("stream", net)
        whole = [
            label(path, module)
            for path, module in outside_of_containers(net)
            if isinstance(module, StepModule) and module.step_mode != "s"
        ]
        if whole:
            raise ValueError(
                f"stream takes a network that runs in single steps, but these take whole sequences: {listed(whole)}. "
                "Call functional.set_step_mode(net, 's') first; what has no single steps cannot be in a loop."
            )
        self.net = net

    def step(self, *inputs: Any, **named: Any) -> Any:
        """The output `[N, *]` of the network for the input `[N, *]` of one step."""
        if torch.compiler.is_compiling():
            with torch.no_grad():
                return self.net(*inputs, **named)
        learning = torch.is_grad_enabled()
        try:
            enable_gradients(False)
            if len(inputs) == 1 and not named:
                row = self._row
                if row is None or not row.holds(self.net):
                    row = self._row = Row(self.net)
                if row.is_open_to(inputs[0], learning):
                    return row.step(inputs[0])
            return self.net(*inputs, **named)
        finally:
            enable_gradients(learning)

    def __call__(self, *inputs: Any, **named: Any) -> NoReturn:
        """TypeError: a network is called, and has gradients; a step of a stream has none, and is named so."""
        raise TypeError("A Stream is not called: loop.step(x) runs one step [N, *], and loop.reset() begins anew.")

    def reset(self, where: Any = None) -> None:
        """Begin anew: every module goes back to the state of its reset.

        - `where`: None for all samples; or `[N]` of bools, True for the samples that begin anew, as `reset_samples`
          takes it.
        """
        if where is None:
            reset_net(self.net)
        else:
            reset_samples(self.net, where)

    @property
    def state(self) -> NetworkState:
        """The state of every module by path and name."""
        return get_state(self.net)

    @state.setter
    def state(self, given: Mapping[str, Mapping[str, Any]]) -> None:
        set_state(self.net, given)

    def __getstate__(self) -> dict[str, Any]:
        return {name: held for name, held in self.__dict__.items() if name != "_row"}

    def __repr__(self) -> str:
        return f"Stream of {type(self.net).__name__}"


def stream(net: nn.Module) -> Stream:
    """Run a network in single steps in a loop with the world: a robot, a sensor, an environment that learns.

    Gives an object with `step(x) -> y`, `reset()` and `state`; a step gives what the network in single steps gives, bit
    for bit. The state is in no copy: it is that of `net`. ValueError if a module takes whole sequences.

    >>> net = nn.Sequential(nn.Linear(1, 1), spikescope.neuron.IFNode())
    >>> _ = nn.init.constant_(net[0].weight, -1.0), nn.init.constant_(net[0].bias, 1.0)
    >>> loop, y = stream(net), torch.zeros(1, 1)
    >>> [int(y := loop.step(y)) for _ in range(4)]  # a spike holds the next one back
    [1, 0, 1, 0]
    >>> before = loop.state
    >>> _ = loop.step(torch.tensor([[0.25]]))
    >>> loop.state = before
    >>> loop.reset()
    """
    return Stream(net)
