"""One process or many: what `torchrun` says of them, and the few sums that they share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["Ranks", "chosen_device", "joined_ranks"]


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: `rank` of `count`, on `device`.

    >>> Ranks(0, 1, torch.device("cpu")).first
    True
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, the same on each."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool, now: bool = True) -> bool:
        """Whether `flag` holds on one of the processes; several ask each other only when it is the moment, `now`."""
        if self.count == 1:
            return flag
        return now and bool(self.total(torch.tensor(float(flag), device=self.device)) > 0)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the values of the first."""
        if self.count > 1:
            for held in tensors:
                distributed.broadcast(held, src=0)

    def gather(self, value: Any) -> list[Any]:
        """The values that all processes have, by rank, on each of them."""
        held = [value]
        if self.count > 1:
            held = [None] * self.count
            distributed.all_gather_object(held, value)
        return held

    def share(self, path: str) -> str:
        """The text that the first process has, on each."""
        held = [path]
        if self.count > 1:
            distributed.broadcast_object_list(held, src=0, device=self.device)
        return held[0]


def restarted() -> bool:
    """Whether `torchrun` has started this process in the place of one that failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined_ranks(device: str, patience: float = 600.0) -> Iterator[Ranks]:
    """The processes that `torchrun` has started, joined in a group while the block runs; or this one alone.

    - `device`: `'auto'`, `'cpu'`, `'cuda'`, `'cuda:1'`. Of several processes each takes the GPU of its LOCAL_RANK.

    - `patience`: seconds that one waits for the others.

    Of a process that dies the others hear at once, and of one that hangs after `patience`: a RuntimeError in words that
    say how to go on. Under `torchrun` all of them end then, or start anew with `--max-restarts`.
    """
    chosen = chosen_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if distributed.is_initialized():
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), chosen)
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=patience))
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size(), chosen)
    try:
        yield ranks
    except RuntimeError as error:
        if not _tells_of_a_loss(error):
            raise
        raise RuntimeError(
            f"Process {ranks.rank} of {ranks.count} has lost another one, which has died or did not answer within "
            f"{patience:g} seconds; its own output says why. What was trained is in the last checkpoint: go on with "
            f"`torchrun ... -m spikescope train --resume DIR`. PyTorch says: {str(error).splitlines()[0]}"
        ) from error
    finally:
        distributed.destroy_process_group()


_LOSSES = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "connection refused")


def _tells_of_a_loss(error: RuntimeError) -> bool:
    """Whether an error is that of a process that does not answer. Gloo has no class for it, and NCCL another one."""
    told = str(error).lower()
    of_network = isinstance(error, distributed.DistError) or "gloo" in told
    return of_network and any(words in told for words in _LOSSES)


def chosen_device(name: str, local: int = 0) -> torch.device:
    """The device called `name`, which is there; of `'auto'` and `'cuda'` the GPU number `local`."""
    if name in ("auto", "cuda"):
        if torch.cuda.is_available():
            return torch.device("cuda", local)
        if name == "auto":
            return torch.device("cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"There is no device {name!r}; choose 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    if chosen.type == "meta":
        raise ValueError(
            "On the device 'meta' there are no numbers to train; choose 'auto', 'cpu', 'cuda' or 'cuda:1'."
        )
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device that PyTorch can use; choose the device 'cpu' or 'auto'.")
    return chosen
