"""What is random in a training follows from counters, so that it can be taken up anywhere: seed, epoch, sample, batch.

Nothing is drawn from a generator that runs on from one step to the next. The order of an epoch follows from the seed
and the epoch; what is done to a sample from these and the number of the sample, in whichever process it is loaded;
noise in the network from the seed, the epoch, the batch and the rank.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

__all__ = ["Order", "Place", "SeededSamples", "keeping_generators", "mixed", "seed_all"]


def mixed(*counters: int) -> int:
    """A seed of 63 bits from counters, another for every other tuple of them.

    >>> mixed(0, 1) == mixed(0, 1), mixed(0, 1) == mixed(1, 0)
    (True, False)
    """
    text = ",".join(map(str, counters)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_all(*counters: int) -> None:
    """Seed the global generators of PyTorch (of CPU and GPUs), NumPy and Python from counters."""
    seed = mixed(*counters)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes ten times as long where no GPU is in use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # for the code of users that draws from it


@contextmanager
def keeping_generators() -> Iterator[None]:
    """Put the global generators of PyTorch, NumPy and Python back at the end."""
    held, numpy_held = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(held)
            np.random.set_state(numpy_held)  # noqa: NPY002


class Place(NamedTuple):
    """Which sample, in which epoch: what `Order` asks `SeededSamples` for."""

    epoch: int
    sample: int


class SeededSamples(Dataset[Any]):
    """The samples of a data set, each loaded with generators that its place has seeded.

    So an augmentation gives the same whether the sample is loaded here, in one of many workers, or after a resume. The
    global generators are left as the sample has left them.
    """

    def __init__(self, samples: Any, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: Place) -> Any:
        seed_all(self.seed, *place)
        return self.samples[place.sample]


class Order(Sampler[list[Place]]):
    """The batches of an epoch for one rank, each a list of places.

    - `count`: samples in all. `size`: of a batch on each of `ranks` ranks. `skip`: batches that are done already.
    - `shuffled`: drawn anew for each epoch; then what is left over at the end falls away unless it is all there is, so
      that all ranks take as many steps. Not shuffled, every sample comes once.

    >>> [[place.sample for place in batch] for batch in Order(5, 2, shuffled=False)]
    [[0, 1], [2, 3], [4]]
    >>> order = Order(8, 2, seed=1, ranks=2, rank=0, shuffled=True)
    >>> len(order), len({place.sample for batch in order for place in batch})
    (2, 4)
    """

    def __init__(
        self,
        count: int,
        size: int,
        *,
        shuffled: bool,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        ranks: int = 1,
        skip: int = 0,
    ) -> None:
        self.count, self.size, self.shuffled = count, size, shuffled
        self.seed, self.epoch, self.rank, self.ranks, self.skip = seed, epoch, rank, ranks, skip

    def _order(self) -> Tensor:
        if not self.shuffled:
            return torch.arange(self.count, device="cpu")[self.rank :: self.ranks]
        generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch))
        order = torch.randperm(self.count, generator=generator, device="cpu")
        whole = self.size * self.ranks
        used = order[: max(self.count // whole * whole, min(self.count, whole))]
        return used[self.rank :: self.ranks][: -(-len(used) // self.ranks)]

    def __iter__(self) -> Iterator[list[Place]]:
        for batch in self._order().split(self.size)[self.skip :]:
            yield [Place(self.epoch, sample) for sample in batch.tolist()]

    def __len__(self) -> int:
        return max(0, -(-len(self._order()) // self.size) - self.skip)
