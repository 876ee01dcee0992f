"""What the neurons of the clock-driven interface keep themselves: `node.monitor`, and the threshold across resets."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["ClockDriven", "set_monitor"]


def _array(x: Tensor) -> Any:
    return x.detach().cpu().float().numpy().copy()


def _note(node: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Append every step of a call to the lists of `node.monitor`."""
    told = {"h": node.tapped.get("h"), "v": node.tapped.get("v"), "s": output}
    for name, held in told.items():
        if held is not None:
            node.monitor[name] += [_array(step) for step in (held if node.step_mode == "m" else [held])]


class ClockDriven:
    """Beside a neuron: its `monitor` is False, or a dictionary of the potentials after charging `h`, after reset `v`,
    and the spikes `s`, a list with an array for each step.

    `reset()` empties these, and puts `v_threshold` and `v_reset` back to what the constructor was given, since they
    were memories there.
    """

    monitor: Any = False
    _watch: Any = None

    def prepare(self) -> None:
        super().prepare()  # type: ignore[misc]  # that of the neuron
        node: Any = self
        self._at_first = {name: getattr(node, name) for name in ("v_threshold", "v_reset") if hasattr(node, name)}

    def set_monitor(self, monitor_state: bool = True) -> None:
        """Begin to keep what happens, with empty lists, or end it."""
        node: Any = self
        if self._watch is not None:
            self._watch.remove()
        self.monitor = {"h": [], "v": [], "s": []} if monitor_state else False
        self._watch = node.register_forward_hook(_note) if monitor_state else None
        node.request_taps(("h", "v") if monitor_state else ())

    def reset(self) -> None:
        super().reset()  # type: ignore[misc]  # that of the neuron
        for name, held in self._at_first.items():
            now = getattr(self, name)
            if now is not held and not isinstance(held, Tensor) and not isinstance(now, nn.Parameter):
                setattr(self, name, held)
        if self.monitor:
            self.monitor = {"h": [], "v": [], "s": []}


def set_monitor(net: nn.Module, monitor_state: bool = True) -> None:
    """`node.set_monitor(monitor_state)` of all neurons that have it; `monitor.Monitor(net)` watches the others, too."""
    for module in net.modules():
        if isinstance(module, ClockDriven):
            module.set_monitor(monitor_state)
