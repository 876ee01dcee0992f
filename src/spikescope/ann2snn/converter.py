"""The conversion: fuse, measure, replace."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from .. import layer
from ..base import StepModule
from ..errors import check_switches
from ..functional.fusion import fused_pair, fusion_obstacle
from ..layer.stateless import registry
from ..monitor import instrument
from .driving import with_progress
from .modules import Folded, ScaledNeuron, SpikingMaxPool, VoltageHook
from .operations import DROPOUTS, NORMS
from .tracing import Plan, Watch, as_batches, inputs_of, on_device, plan, required

__all__ = ["Converter"]

_LAYERS: dict[type[nn.Module], type[nn.Module]] = {made.torch_class: made for made in registry.values()}
_LAYERS |= {nn.BatchNorm1d: layer.BatchNorm1d, nn.BatchNorm2d: layer.BatchNorm2d, nn.BatchNorm3d: layer.BatchNorm3d}

_NO_DATA = "Converter got no data to measure the activations on: the dataloader is empty."


class Converter:
    r"""Turns a trained network of ReLUs into one of spikes, without training.

    $$\text{activation} \approx \frac{1}{T} \sum_t y_t \qquad y_t \in \{0, \text{scale}\}$$

    Each ReLU becomes a `ScaledNeuron` whose `scale` is measured on data, each max-pool a `SpikingMaxPool`; batch
    normalisation is taken into the layer before it. Weighted sums stay. What else there is, is refused by name.

    - `dataloader`: some batches, as the network takes them or with labels after them; or one batch as a tensor.
    - `device`: where to measure; None leaves the network where it is.
    - `mode`, `momentum`: what is taken for the largest activation, see `VoltageHook`.
    - `fuse_flag`: whether batch normalisation is fused; else it stays, in eval.

    Rueckauer et al., *Conversion of continuous-valued deep networks to efficient event-driven networks for image
    classification* (2017).

    >>> ann = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.constant_(ann[0].weight, 2.0)
    >>> snn = Converter(torch.tensor([[0.25], [1.0]]))(ann)  # the largest activation is 2
    >>> sum(snn(torch.tensor([[0.25]])) for _ in range(4)) / 4  # the ReLU gives 0.5
    tensor([[0.5000]], grad_fn=<DivBackward0>)
    """

    spiking: ClassVar[type[ScaledNeuron]] = ScaledNeuron  # what a ReLU becomes

    def __init__(
        self,
        dataloader: Iterable[Any],
        device: torch.device | str | None = None,
        mode: str | float = "Max",
        momentum: float | None = 0.1,
        fuse_flag: bool = True,
    ) -> None:
        self.dataloader = as_batches("Converter", dataloader)
        check_switches("Converter", fuse_flag=fuse_flag)
        self.device = device
        self.mode = mode
        self.momentum = momentum
        self.fuse_flag = fuse_flag
        self._hook()

    def _hook(self) -> VoltageHook:
        return VoltageHook(momentum=self.momentum, mode=self.mode)

    def __call__(self, ann: nn.Module) -> fx.GraphModule:
        """The spiking network, in eval and `step_mode='s'`; `ann` stays as it is.

        ValueError, with the names of the nodes, if there is what cannot be converted.
        """
        held = self._planned(ann)
        return _built(held, self._measure(held), self.fuse_flag, self.spiking)

    convert = __call__

    def structure(self, ann: nn.Module) -> fx.GraphModule:
        """What a call gives, with scales of 1 and nothing measured: what the `state_dict` of a conversion goes into.

        - `ann`: of the same layers; its weights do not matter. One batch of the data runs through it.

        >>> ann, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.rand(8, 2)
        >>> saved = Converter(x)(ann).state_dict()
        >>> Converter(x).structure(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).load_state_dict(saved)
        <All keys matched successfully>
        """
        held = self._planned(ann)
        batch = next(iter(self.dataloader), None)
        if batch is None:
            raise ValueError(_NO_DATA)
        with torch.no_grad():
            inputs = inputs_of("Converter", batch, required(held.net.graph))
            Watch(held, lambda name, activation: None).run(*on_device(inputs, held.net))
        scales = {held.names[node]: torch.ones(()) for node in held.of("neuron")}
        return _built(held, scales, self.fuse_flag, self.spiking)

    def _planned(self, ann: nn.Module) -> Plan:
        held = plan(ann)
        held.net.to(self.device)
        if not held.of("neuron"):
            raise ValueError(f"Converter found no ReLU in {held.owner}: there is nothing that could spike.")
        return held

    @torch.no_grad()
    def _measure(self, held: Plan) -> dict[str, Tensor]:
        """The scale of each neuron, by its name."""
        hooks = {held.names[node]: self._hook() for node in held.of("neuron")}

        def take(name: str, activation: Tensor) -> None:
            try:
                hooks[name](activation)
            except ValueError as error:
                raise ValueError(f"Converter, at {name}: {error}") from error

        watch = Watch(held, take)
        for batch in with_progress(self.dataloader, "measuring activations"):
            inputs = inputs_of("Converter", batch, required(held.net.graph))
            watch.run(*on_device(inputs, held.net))
        for name, hook in hooks.items():
            if not hook.num_batches_tracked:
                raise ValueError(_NO_DATA)
            if not hook.scale > 0:
                raise ValueError(
                    f"Converter measured the scale {hook.scale.item():g} for {name}: with mode={self.mode!r} it was "
                    "never active. Give more data or a higher percentile, or take the layer out."
                )
        return {name: hook.scale for name, hook in hooks.items()}


def _built(held: Plan, scales: dict[str, Tensor], fuse: bool, spiking: type[ScaledNeuron]) -> fx.GraphModule:
    """The network of spikes that a plan and the scale of each neuron come to."""
    if fuse:
        fuse_norms(held)
    return of_spikes(held, lambda node: spiking(scales[held.names[node]]))


def of_spikes(
    held: Plan, spiking: Callable[[fx.Node], nn.Module], kind: type[fx.GraphModule] = fx.GraphModule
) -> fx.GraphModule:
    """The network in which each node of a plan has become what its role says, a neuron what `spiking` makes of it."""
    for node in list(held.roles):
        _replace(held, node, spiking)
    held.net.graph.lint()
    snn = kind(held.net, held.net.graph, held.owner)  # anew: with its modules in the order of the calls
    instrument(snn)
    return snn.eval()


def fuse_norms(held: Plan) -> None:
    """Take each batch normalisation into the layer of weights before it, where nobody else uses that layer."""
    calls = Counter(str(node.target) for node in held.net.graph.nodes if node.op == "call_module")
    for node in held.of("module"):
        before = node.all_input_nodes[0]
        if held.roles.get(before, None) is None or held.roles[before].kind != "module" or len(before.users) > 1:
            continue
        weighted = held.net.get_submodule(str(before.target))
        norm = held.net.get_submodule(str(node.target))
        if not isinstance(norm, NORMS) or calls[str(before.target)] > 1:
            continue
        if isinstance(weighted, nn.Linear) and before.meta.get("axes") != 2:
            continue  # of [N, L, C] the normalisation is over L; before a run nobody knows which it is
        if fusion_obstacle(weighted, norm) is None:
            held.net.set_submodule(str(before.target), fused_pair(weighted, norm))
            node.replace_all_uses_with(before)
            held.net.graph.erase_node(node)
            del held.roles[node]


def _replace(held: Plan, node: fx.Node, spiking: Callable[[fx.Node], nn.Module]) -> None:
    """Put in the place of a node what its role says."""
    role = held.roles[node]
    if role.kind == "neuron":
        _put(held, node, spiking(node))
    elif role.kind == "gate":
        _put(held, node, SpikingMaxPool(copy.deepcopy(role.made)))
    elif role.kind == "function":
        _put(held, node, Folded(role.made, _varies(held, (node.args, node.kwargs))), every_argument=True)
    elif role.kind == "module":
        held.net.set_submodule(str(node.target), _stepwise(held.net.get_submodule(str(node.target))))
    elif role.kind == "nothing":
        node.replace_all_uses_with(node.all_input_nodes[0])
        held.net.graph.erase_node(node)


def _put(held: Plan, node: fx.Node, made: nn.Module, every_argument: bool = False) -> None:
    """Let the module `made` stand where a node was, under the node's name."""
    name = held.names[node]
    first = node.all_input_nodes[0]
    held.net.add_submodule(name, made)
    with held.net.graph.inserting_after(node):
        call = held.net.graph.call_module(name, *((node.args, node.kwargs) if every_argument else ((first,), {})))
    if node in held.varying:
        held.varying.add(call)
    node.replace_all_uses_with(call)
    held.net.graph.erase_node(node)


def _varies(held: Plan, given: Any) -> Any:
    """For every argument of a call whether it varies with the input, in plain tuples, lists and dicts."""
    if isinstance(given, dict):
        return {name: _varies(held, value) for name, value in given.items()}
    if isinstance(given, (tuple, list)):
        return (tuple if isinstance(given, tuple) else list)(_varies(held, value) for value in given)
    return isinstance(given, fx.Node) and given in held.varying


def _stepwise(module: nn.Module) -> nn.Module:
    """A module of PyTorch as one with a step mode; the same parameters under the same names."""
    kind = type(module)
    if isinstance(module, (StepModule, nn.Identity)):
        return module
    if isinstance(module, DROPOUTS):
        return (layer.Dropout if kind is nn.Dropout else layer.Dropout2d)(module.p)
    if kind in _LAYERS:
        module.__class__ = _LAYERS[kind]  # the instance is the converter's own copy
        return module
    return layer.StepModeContainer(False, module)
