"""The front of comparisons: recordings are held against each other here, networks by who can run them."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import check_number
from .comparison import Comparison, differences

__all__ = ["compare"]


def compare(a: Any, b: Any, x: Any = None, *, tolerance: float = 0.0, **chosen: Any) -> Comparison:
    """Two recordings of the same input: the first layer, step, sample and neuron that differ, and how it grows.

    - `a`, `b`: recordings on disk; or mappings of the names of layers to values `[T, N, *]`, tensors or packed spikes,
      such as `monitor.record(net, "packed")`. Layers are matched by name, signals too; their order is that of `a`.
    - `x`, `chosen`: of networks, which `monitor.compare` runs on `x`.
    - `tolerance`: differences up to it are none. NaN equals NaN, and differs from all else.

    Each signal is read once, piece by piece. Layers whose runs or neurons have other shapes are a ValueError.

    >>> a = {"conv1": torch.zeros(4, 1, 3), "conv2": torch.zeros(4, 1, 2)}
    >>> b = {"conv1": torch.zeros(4, 1, 3), "conv2": torch.eye(4)[:, None, 2:]}
    >>> print(compare(a, b))
    They first differ in 'conv2', spike: run 0, step 2, sample 0, neuron 0: 0 and 1.
    conv1 spike: 0 of 12 differ
    conv2 spike: 2 of 8 differ (25 %), by up to 1, from step 2 on, most at step 2 (50 %)
    """
    if isinstance(a, nn.Module) or isinstance(b, nn.Module):
        import spikescope  # by the front door: what runs networks stands above, and is asked for by name alone

        return spikescope.monitor.compare(a, b, x, tolerance=tolerance, **chosen)
    check_number("compare", "tolerance", tolerance, least=0)
    if x is not None or chosen:
        given = "x" if x is not None else next(iter(chosen))
        raise TypeError(f"compare: {given} is for networks, but got {type(a).__name__} and {type(b).__name__}.")
    return differences(a, b, tolerance)
