"""The recipes that put neurons whose rate is the activation into the places of the ReLUs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from torch import Tensor, fx, nn

from ...ann2snn import VoltageHook, VoltageScaler
from ...ann2snn.converter import fuse_norms, of_spikes
from ...ann2snn.operations import Role
from ...ann2snn.tracing import Plan, as_batches, inputs_of, required
from ...errors import check_bound, check_switches
from ...neuron import HalfThresholdIFNode, IFNode
from .measures import (
    ChannelVoltageHook,
    ChannelVoltageScaler,
    LocalThresholdBalancingHook,
    measured,
    validate_rate_coding_mode,
)
from .stages import FXConversionRecipe

__all__ = ["LocalThresholdBalancingRecipe", "RateCodingRecipe"]


class ToRates(FXConversionRecipe):
    """What both recipes share: a hook behind each ReLU, and in the end a neuron in the place of both.

    What there is beside ReLUs becomes what `ann2snn.Converter` makes of it, or is refused by name as there.
    """

    dataloader: Any
    fuse_flag: bool
    channel_dim: int
    pools_first = False  # whether a max-pool behind a ReLU comes before the neuron, as an ordinary pool
    called = "spiking"  # the name of a neuron, behind which comes its number among those in the same module

    def hook(self) -> nn.Module:
        """What measures one activation."""
        raise NotImplementedError("a recipe says what measures an activation")

    def spiking(self, hook: Any) -> nn.Module:
        """The neuron of what a hook has measured."""
        raise NotImplementedError("a recipe says which neuron stands for an activation")

    def validate(self, converter: Any) -> None:
        as_batches(type(self).__name__, self.dataloader)

    def after_trace(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        held = plan_of(fx_model)
        if self.fuse_flag:
            fuse_norms(held)
            fx_model.recompile()
        return fx_model

    def insert_observers(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        held = plan_of(fx_model)
        if not held.of("neuron"):
            raise ValueError(f"{type(self).__name__} found no ReLU in {held.owner}: there is nothing that could spike.")
        for place, node in enumerate(held.of("neuron")):
            if self.pools_first:
                _after_its_pool(held, node)
            name = f"hook_{place}"
            fx_model.add_submodule(name, self.hook())
            with fx_model.graph.inserting_after(node):
                call = fx_model.graph.call_module(name, (node,))
            node.replace_all_uses_with(call, delete_user_cb={*node.users}.difference({call}).__contains__)
            node.meta["hook"] = call
        fx_model.recompile()
        return fx_model.to(converter.device)

    def calibrate(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        count = required(fx_model.graph)
        for batch in as_batches(type(self).__name__, self.dataloader):
            fx_model(*(x.to(converter.device) for x in inputs_of(type(self).__name__, batch, count)))
        return fx_model

    def replace(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        held, hooks = plan_of(fx_model), {}
        renamed = _name_neurons(held, self.called)
        for node in held.of("neuron"):
            call = node.meta.pop("hook")
            hooks[node] = fx_model.get_submodule(call.target)
            call.replace_all_uses_with(node)
            fx_model.graph.erase_node(call)
        snn = of_spikes(held, lambda node: self.spiking(hooks[node]), _Renamed).to(converter.device)
        snn.register_load_state_dict_pre_hook(_FormerNames(renamed))
        return snn


def plan_of(net: fx.GraphModule) -> Plan:
    """The roles of the nodes of a graph, which stay the same through the stages."""
    if "roles" not in net.meta:
        net.meta["roles"] = Plan(net, net.__class__.__name__)
    held: Plan = net.meta["roles"]
    return held


class _FormerNames:
    """What lets a network load files of when its neurons had the names of the ReLUs in whose places they are."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def __call__(self, net: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for former, name in self.names.items():
            for key in [key for key in state_dict if key.startswith(f"{prefix}{former}.")]:
                state_dict.setdefault(f"{prefix}{name}.{key.removeprefix(f'{prefix}{former}.')}", state_dict.pop(key))


class _Renamed(fx.GraphModule):
    """A network that loads files with former names, also when it was pickled: PyTorch makes a graph anew from its code,
    as a plain `GraphModule` without hooks.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        made, arguments = super().__reduce__()
        hooks = [getattr(hook, "hook", hook) for hook in self._load_state_dict_pre_hooks.values()]
        return _read, (made, arguments, [hook.names for hook in hooks if isinstance(hook, _FormerNames)])


def _read(made: Callable[..., fx.GraphModule], arguments: tuple[Any, ...], renamed: list[dict[str, str]]) -> _Renamed:
    plain = made(*arguments)
    net = _Renamed(plain, plain.graph, type(plain).__name__)
    for name, held in vars(plain).items():
        if not hasattr(net, name):
            setattr(net, name, held)
    for names in renamed:
        net.register_load_state_dict_pre_hook(_FormerNames(names))
    return net


def _name_neurons(held: Plan, called: str) -> dict[str, str]:
    """Call the neurons of the modules that are ReLUs as SpikingJelly 2.0 calls them, so that files of it load.

    The result is the names by the former ones.
    """
    renamed = {}
    taken = {name for name, _ in held.net.named_modules()}
    for node in held.of("neuron"):
        if node.op == "call_module":
            inside = str(node.target).rpartition(".")[0]
            names = (f"{inside}.{called}_{number}".lstrip(".") for number in count())
            former, held.names[node] = held.names[node], next(name for name in names if name not in taken)
            taken.add(held.names[node])
            renamed[former] = held.names[node]
    return renamed


def _after_its_pool(held: Plan, node: fx.Node) -> None:
    """Let a ReLU and the max-pool that alone takes its output change places: the maximum is the same."""
    (pool, *others) = [*node.users, None]
    if pool is None or others != [None] or pool.op != "call_module" or held.roles[pool].kind != "gate":
        return
    if not isinstance(held.net.get_submodule(str(pool.target)), nn.MaxPool2d):
        return
    (x,) = node.all_input_nodes
    pool.replace_input_with(node, x)
    pool.append(node)
    pool.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
    node.replace_input_with(x, pool)
    held.roles[pool] = Role("module")


def scaled(scaler: Callable[[Any], nn.Module], threshold: Any, unit: Any, neuron: nn.Module) -> nn.Module:
    """A neuron whose input and output are measured in thresholds: `scaler0`, `if_node` and `scaler1`."""
    return nn.Sequential(OrderedDict(scaler0=scaler(unit / threshold), if_node=neuron, scaler1=scaler(threshold)))


class RateCodingRecipe(ToRates):
    r"""Neurons with soft reset in the places of ReLUs, $x \mapsto \lambda\,\mathrm{IF}(x / \lambda)$, from rest.

    - `dataloader`: batches, as `ann2snn.Converter` takes them.
    - `mode`, `momentum`: what is taken for the largest activation $\lambda$, see `ann2snn.VoltageHook`.
    - `fuse_flag`: whether batch normalisations are taken into the convolutions before them.
    - `channel_wise`: whether each channel, an index of the axis `channel_dim`, has a $\lambda$ of its own, at least
      `eps`. Then `half_threshold` starts the neurons at half their threshold, and `pre_spike_maxpool` puts a
      MaxPool2d that follows a ReLU in front of the neuron.
    - `neuron_factory`: makes the neuron of $\lambda$ (of 1 with `channel_wise`); its `v_threshold` is seen to.

    Diehl et al., *Fast-classifying, high-accuracy spiking deep networks through weight and threshold balancing*
    (IJCNN 2015).
    """

    def __init__(
        self,
        dataloader: Iterable[Any],
        mode: str | float = "Max",
        momentum: float = 0.1,
        fuse_flag: bool = True,
        channel_wise: bool = False,
        channel_dim: int = 1,
        pre_spike_maxpool: bool = False,
        half_threshold: bool = False,
        eps: float = 1e-6,
        neuron_factory: Callable[[float], nn.Module] | None = None,
    ) -> None:
        switches = {"fuse_flag": fuse_flag, "channel_wise": channel_wise, "half_threshold": half_threshold}
        check_switches("RateCodingRecipe", **switches, pre_spike_maxpool=pre_spike_maxpool)
        if channel_wise and half_threshold and neuron_factory is not None:
            raise ValueError(
                "RateCodingRecipe: with channel_wise and half_threshold the neuron is a HalfThresholdIFNode; leave "
                "neuron_factory out, or half_threshold."
            )
        self.dataloader, self.mode, self.momentum, self.fuse_flag = dataloader, mode, momentum, fuse_flag
        self.channel_wise, self.channel_dim, self.eps = channel_wise, channel_dim, eps
        self.pre_spike_maxpool, self.half_threshold = pre_spike_maxpool, half_threshold
        self.neuron_factory = neuron_factory

    def validate(self, converter: Any) -> None:
        super().validate(converter)
        validate_rate_coding_mode(self.mode)
        check_bound("RateCodingRecipe", "momentum", self.momentum, least=0, most=1)
        check_bound("RateCodingRecipe", "eps", self.eps, above=0)
        self.pools_first = self.channel_wise and self.pre_spike_maxpool
        self.called = "channel_spiking" if self.channel_wise else "spiking"

    def hook(self) -> nn.Module:
        if self.channel_wise:
            return ChannelVoltageHook(self.mode, self.momentum, self.channel_dim, self.eps)
        return VoltageHook(momentum=self.momentum, mode=self.mode)

    def spiking(self, hook: Any) -> nn.Module:
        if not self.channel_wise and not hook.num_batches_tracked:
            raise ValueError("RateCodingRecipe got no data to measure the activations on: the dataloader is empty.")
        scale: Tensor = measured("RateCodingRecipe", hook.scale)
        if self.channel_wise and self.half_threshold:
            made: nn.Module = HalfThresholdIFNode()
        elif self.neuron_factory is not None:
            made = self.neuron_factory(1.0 if self.channel_wise else scale.item())
        else:
            made = IFNode(v_reset=None)
        unit = getattr(made, "v_threshold", 1.0)
        if self.channel_wise:
            return scaled(lambda held: ChannelVoltageScaler(held, self.channel_dim), scale, unit, made)
        return scaled(VoltageScaler, scale, unit, made)


class LocalThresholdBalancingRecipe(ToRates):
    """`HalfThresholdIFNode`s whose thresholds are balanced for each channel, so that what clipping loses is small.

    See `LocalThresholdBalancingHook`. A MaxPool2d that follows a ReLU comes before the neuron.
    """

    pools_first = True
    called = "ltb_spiking"

    def __init__(
        self, dataloader: Iterable[Any], channel_dim: int = 1, fuse_flag: bool = True, eps: float = 1e-6
    ) -> None:
        check_switches("LocalThresholdBalancingRecipe", fuse_flag=fuse_flag)
        self.dataloader, self.channel_dim, self.fuse_flag, self.eps = dataloader, channel_dim, fuse_flag, eps

    def hook(self) -> nn.Module:
        return LocalThresholdBalancingHook(self.channel_dim, self.eps)

    def spiking(self, hook: Any) -> nn.Module:
        threshold = hook.compute_threshold()
        return scaled(lambda held: ChannelVoltageScaler(held, self.channel_dim), threshold, 1.0, HalfThresholdIFNode())
