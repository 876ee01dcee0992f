"""The batch normalisations of a whole network, folded into the layers before them: for inference."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import check_module
from ..layer.container import MultiStepContainer, SeqToANNContainer, StepModeContainer
from ..layer.online import OTTTSequential
from .fusion import PAIRS, fused_pair, fusion_obstacle
from .network import label

__all__ = ["ConvBN", "find_convbn", "fuse_network"]

logger = logging.getLogger("spikescope")

IN_A_ROW = {
    kind.forward for kind in (nn.Sequential, MultiStepContainer, OTTTSequential, SeqToANNContainer, StepModeContainer)
}
"""The forwards that call their modules one after the other."""


class ConvBN(NamedTuple):
    """A batch normalisation of a network and the layer before it, by their paths."""

    bn: str
    conv: str  # empty if there is no one layer before it
    obstacle: str  # why the two cannot be one, empty if they can


class _Call(NamedTuple):
    """A place where a module is called: the module whose output it takes, and the only one that takes its output."""

    module: nn.Module
    before: nn.Module | None = None
    after: nn.Module | None = None


def fuse_network(net: nn.Module) -> nn.Module:
    """A copy of `net`, for inference, with the batch normalisations folded into the layers right before them.

    The copy gives what `net` gives in eval, up to rounding. Each folded normalisation leaves an `nn.Identity`; all
    else (classes, step modes, names, what monitors plug into) stays. What is folded, and what is not and why, goes to
    the logger `spikescope`; `find_convbn(net)` tells it beforehand. `fuse_convbn` and `fuse_linearbn` do one pair.

    A BatchNorm1d behind a Linear is taken to normalise its features, `[N, C]`. What is left, as a normalisation behind
    a pool, `fuse_bn_neurons` can put into the neuron behind it. ValueError if `net` is in training mode.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), spikescope.neuron.IFNode()).eval()
    >>> [type(module).__name__ for module in fuse_network(net)]
    ['Conv2d', 'Identity', 'IFNode']
    """
    check_module("fuse_network", net)
    if net.training:
        raise ValueError("fuse_network takes a network in eval mode, but this one is in training. Call net.eval().")
    fused = copy.deepcopy(net)
    for found in find_convbn(fused):
        if found.obstacle:
            logger.warning("fuse_network leaves %s as it is: %s", found.bn or "the network itself", found.obstacle)
            continue
        conv, bn = fused.get_submodule(found.conv), fused.get_submodule(found.bn)
        made: Any = fused_pair(conv, bn)  # type: ignore[arg-type]  # it was found to be one
        _replace(fused, {conv: made, bn: nn.Identity().train(bn.training)})
        logger.info("fuse_network folds %s into %s.", found.bn, found.conv)
    return fused


def find_convbn(net: nn.Module) -> list[ConvBN]:
    """Every batch normalisation of `net`, the layer before it, and why the two cannot be one, if they cannot.

    Two modules follow each other where they do so in an `nn.Sequential` or a container of this library, and in every
    other forward that `torch.fx` can trace, module by module; and nowhere is one called without the other. The
    elements of a sequential are taken to be called by it alone where the forward around it cannot be traced. The
    network is not run and not changed: a copy of it is traced.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2)).eval()
    >>> for found in find_convbn(net):
    ...     print(found)
    ConvBN(bn='1', conv='0', obstacle='')
    ConvBN(bn='3', conv='', obstacle='it follows 2 (ReLU), which is not a linear layer or convolution.')
    """
    check_module("find_convbn", net)
    net = copy.deepcopy(net)  # tracing runs code of the user's
    paths = {module: path for path, module in net.named_modules()}
    norms = _norms(net)
    calls = list(_calls(net)) if norms else []
    return [_judged(bn, calls, paths) for bn in norms]


def _norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]


def _judged(bn: nn.Module, calls: list[_Call], paths: dict[nn.Module, str]) -> ConvBN:
    """What is to be said of one normalisation."""
    name = paths[bn]
    own = [call for call in calls if call.module is bn]
    before = [*{call.before: None for call in own}]
    if not own:
        return ConvBN(name, "", "no forward that could be followed calls it.")
    if len(before) > 1:
        return ConvBN(name, "", "it follows different modules at different places, or its numbers are read.")
    conv = before[0]
    if conv is None:
        return ConvBN(name, "", "its input is not the output of a module of the same forward.")
    if not isinstance(conv, tuple(PAIRS)):
        return ConvBN(name, "", f"it follows {label(paths[conv], conv)}, which is not a linear layer or convolution.")
    if any(call.after is not bn for call in calls if call.module is conv):
        return ConvBN(name, paths[conv], "the output or the weight of the layer before it is used elsewhere too.")
    if bn.training:
        return ConvBN(name, paths[conv], "it is in training mode. Call eval() first.")
    obstacle = fusion_obstacle(conv, bn)
    return ConvBN(name, paths[conv], "" if obstacle is None else str(obstacle))


def _calls(net: nn.Module) -> Iterator[_Call]:
    """The calls of modules in all forwards that can be followed, of modules that have a normalisation inside."""
    for parent in net.modules():
        if isinstance(parent, _BatchNorm) or not _norms(parent):
            continue
        if type(parent).forward in IN_A_ROW:
            row = [None, *cast("nn.Sequential", parent), None]
            for before, module, after in zip(row, row[1:], row[2:], strict=False):
                yield _Call(cast("nn.Module", module), before, after)
            continue
        try:
            graph = _Tracer().trace(parent)
        except Exception as error:  # code of the user's that no placeholder passes through
            logger.info("%s cannot be traced by torch.fx: %s", type(parent).__name__, error)
            continue
        yield from _traced(parent, graph)


class _Tracer(fx.Tracer):
    """Follows one forward alone: the modules that it calls have theirs."""

    proxy_buffer_attributes = True  # who reads the statistics of a normalisation has to be seen too

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(parent: nn.Module, graph: fx.Graph) -> Iterator[_Call]:
    """The calls of a graph. Who reads a parameter or buffer of a module counts as one more who calls it."""

    def called(node: Any) -> nn.Module | None:
        is_call = isinstance(node, fx.Node) and node.op == "call_module"
        return parent.get_submodule(str(node.target)) if is_call else None

    for node in graph.nodes:
        module = called(node)
        if module is not None:
            alone = len(node.args) == 1 and not node.kwargs
            users = list(node.users)
            yield _Call(module, called(node.args[0]) if alone else None, called(users[0]) if len(users) == 1 else None)
        elif node.op == "get_attr":
            yield _Call(parent.get_submodule(str(node.target).rpartition(".")[0]))


def _replace(net: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Put the new modules where the old ones are, under all of their names."""
    for path, module in list(net.named_modules(remove_duplicate=False)):
        if module in new:
            parent, _, name = path.rpartition(".")
            setattr(net.get_submodule(parent), name, new[module])
