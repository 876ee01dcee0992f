"""The five classic monitors: outputs, inputs, attributes, and the gradients of inputs and outputs.

The `options` of all five are those of `Recorder`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ...errors import check_switches
from ...sockets import Signal
from .base import BaseMonitor
from .recorder import Recorder, same

__all__ = [
    "AttributeMonitor",
    "BaseMonitor",
    "GradInputMonitor",
    "GradOutputMonitor",
    "InputMonitor",
    "OutputMonitor",
]


class OutputMonitor(Recorder):
    """Records what the modules give out.

    - `net`, `instance`: the network and which modules of it, as `where` of `Recorder` says.
    - `function_on_output`: makes the record of an output.
    - `options`: `budget`, `subset` and `keep_graph`, see `Recorder`.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(), spikescope.neuron.IFNode())
    >>> with OutputMonitor(net, spikescope.neuron.IFNode) as monitor:
    ...     _ = net(torch.tensor([0.5, 1.5]))
    >>> monitor["0"], monitor.monitored_layers
    ([tensor([0., 1.])], ['0', '1'])
    """

    def __init__(
        self, net: nn.Module, instance: Any = None, function_on_output: Callable[[Any], Any] = same, **options: Any
    ) -> None:
        super().__init__(net, instance, Signal("output"), function_on_output, **options)


class InputMonitor(Recorder):
    """Records what goes into the modules, before they run: all arguments, those given by keyword after the others.

    - `net`, `instance`: the network and which modules of it, as `where` of `Recorder` says.
    - `function_on_input`: makes the record of an input.
    - `options`: `budget`, `subset` and `keep_graph`, see `Recorder`.

    >>> net = nn.Sequential(nn.ReLU(inplace=True))
    >>> with InputMonitor(net, nn.ReLU) as monitor:
    ...     _ = net(torch.tensor([-1.0, 2.0]))
    >>> monitor.records
    [tensor([-1.,  2.])]
    """

    def __init__(
        self, net: nn.Module, instance: Any = None, function_on_input: Callable[[Any], Any] = same, **options: Any
    ) -> None:
        super().__init__(net, instance, Signal("input"), function_on_input, **options)


class AttributeMonitor(Recorder):
    """Records an attribute of the modules, before or after each call. A record is a copy, whatever the attribute is.

    With `step_mode='m'` the attribute `v` of a neuron is the potential after the last step; all are in `v_seq`.
    An attribute whose name ends in `_seq` has time as its first axis; any other holds one moment.

    - `pre_forward`: before each call instead of after it.
    - `net`, `instance`: the network and which modules of it, as `where` of `Recorder` says.
    - `function_on_attribute`: makes the record of a value.
    - `options`: `budget`, `subset` and `keep_graph`, see `Recorder`.

    >>> node = spikescope.neuron.IFNode()
    >>> with AttributeMonitor("v", False, node, spikescope.neuron.IFNode) as monitor:
    ...     _ = node(torch.tensor([0.25])), node(torch.tensor([0.5]))
    >>> monitor.records
    [tensor([0.2500]), tensor([0.7500])]
    """

    def __init__(
        self,
        attribute_name: str,
        pre_forward: bool,
        net: nn.Module,
        instance: Any = None,
        function_on_attribute: Callable[[Any], Any] = same,
        **options: Any,
    ) -> None:
        if not isinstance(attribute_name, str):
            raise TypeError(f"AttributeMonitor: attribute_name must be a text, but got {attribute_name!r}.")
        check_switches("AttributeMonitor", pre_forward=pre_forward)
        self.attribute_name = attribute_name
        signal = Signal("before" if pre_forward else "after", attribute_name)
        super().__init__(net, instance, signal, function_on_attribute, **options)


class GradInputMonitor(Recorder):
    """Records dL/dX of the modules: of their inputs that want a gradient, the share that flows through the module.

    The order is that of the backward pass: the last module first, and of single steps the last first.
    - `net`, `instance`: the network and which modules of it, as `where` of `Recorder` says.
    - `function_on_grad_input`: makes the record of a gradient.
    - `options`: `scaler`, `budget`, `subset` and `keep_graph`, see `Recorder`.

    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False))
    >>> net[0].weight.data.fill_(3.0)
    tensor([[3.]])
    >>> with GradInputMonitor(net, nn.Linear) as monitor:
    ...     net(torch.ones(1, 1, requires_grad=True)).sum().backward()
    >>> monitor.records
    [tensor([[3.]])]
    """

    def __init__(
        self, net: nn.Module, instance: Any = None, function_on_grad_input: Callable[[Any], Any] = same, **options: Any
    ) -> None:
        super().__init__(net, instance, Signal("grad_input"), function_on_grad_input, **options)


class GradOutputMonitor(Recorder):
    """Records dL/dY of the modules, in the order of the backward pass; arguments and options as of `GradInputMonitor`.

    >>> net = nn.Sequential(nn.Linear(1, 2))
    >>> with GradOutputMonitor(net, nn.Linear) as monitor:
    ...     net(torch.ones(1, 1)).mean().backward()
    >>> monitor.records
    [tensor([[0.5000, 0.5000]])]
    """

    def __init__(
        self,
        net: nn.Module,
        instance: Any = None,
        function_on_grad_output: Callable[[Any], Any] = same,
        **options: Any,
    ) -> None:
        super().__init__(net, instance, Signal("grad_output"), function_on_grad_output, **options)
