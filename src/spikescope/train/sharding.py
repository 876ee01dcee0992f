"""A network in shards: PyTorch's `fully_shard`, with the parameters of a single number that it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

__all__ = ["shard"]


def shard(net: nn.Module, blocks: Iterable[nn.Module] = (), **options: Any) -> nn.Module:
    """Spread the parameters of `net` over all processes by `torch.distributed.fsdp.fully_shard`; gives `net` back.

    - `blocks`: parts of `net` that are brought together and let go of one after the other; what is in none of them
      belongs to the network. Without them the whole network is brought together at once.
    - `options`: of `fully_shard`, such as `mesh` or `mp_policy`.

    `fully_shard` takes no parameter without an axis, such as the learned time constant of a ParametricLIFNode. These
    few numbers stay whole on every process, begin as the first has them, and get the mean of the gradients of all; so
    they train as the others do, and names, step modes, states and monitors stay. Every process has to begin with the
    same weights, by the same seed. `optim` takes `net.parameters()` after this.
    """
    from torch.distributed.fsdp import fully_shard

    numbers = {held for held in net.parameters() if held.ndim == 0}
    mesh = options.get("mesh")
    group = None if mesh is None else mesh.get_group()
    for held in net.parameters():
        if held in numbers:
            with torch.no_grad():
                distributed.broadcast(held, group=group, group_src=0)
            if held.requires_grad:
                held.register_post_accumulate_grad_hook(_Averaged(group))
    for block in blocks:
        fully_shard(block, ignored_params=numbers, **options)
    fully_shard(net, ignored_params=numbers, **options)
    return net


class _Averaged:
    """Replaces the gradient of a parameter by the mean of all processes.

    What an earlier backward pass has left in it is the same on all of them, and so stays.
    """

    def __init__(self, group: Any) -> None:
        self._group = group

    def __call__(self, held: Tensor) -> None:
        if held.grad is not None:
            held.grad /= distributed.get_world_size(self._group)
            distributed.all_reduce(held.grad, group=self._group)
