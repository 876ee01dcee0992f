"""What the pictures show: plain values, free of networks and tensors, so that a report needs a run folder only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Epoch", "GradientFlow", "LayerActivity", "LayerTrace", "LayerWork", "SampleView", "at_each_step"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LayerActivity:
    """How active one layer of neurons was.

    - `rate`: spikes per neuron and time step.
    - `silent`: the share of neurons that fired in no step of any sample.
    """

    name: str
    kind: str
    neurons: int
    rate: float
    silent: float


@dataclass(frozen=True)
class LayerWork:
    """What one sample costs in one layer of weights.

    - `operations`: synaptic operations for the spikes that come in, or products for an input that is no spikes.
    - `dense`: the multiply-accumulates of the same layer in a network without spikes, which runs once a sample.
    """

    name: str
    operations: float
    dense: float


def at_each_step(norms: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The rows of the layers with a number for each step, and the names of those that have fewer.

    What gives one value for a whole sequence, as a read-out does, has no place beside the steps of the others.

    >>> at_each_step({"conv": [0.1, 0.2], "read-out": [0.5]})
    ({'conv': [0.1, 0.2]}, ['read-out'])
    """
    steps = max(map(len, norms.values()), default=0)
    fewer = [name for name, row in norms.items() if len(row) < steps]
    return {name: row for name, row in norms.items() if name not in fewer}, fewer


@dataclass(frozen=True)
class GradientFlow:
    """How far the gradient of the loss reaches back, through depth and through time.

    - `layers`: from input to output.
    - `norms`: `[L, T]`, the L2 norm over samples and neurons of the gradient of each layer's output, at each step.
    """

    layers: tuple[str, ...]
    norms: Array

    @property
    def depth(self) -> Array:
        """The norm over all steps, `[L]`.

        >>> GradientFlow(("a",), np.array([[3.0, 4.0]])).depth.tolist()
        [5.0]
        """
        return np.asarray(np.sqrt(np.square(self.norms).sum(1)))


@dataclass(frozen=True)
class Epoch:
    """One epoch of training: losses, accuracies as shares of 1, seconds of training, and the activity of each layer."""

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    layers: tuple[LayerActivity, ...]

    def row(self) -> dict[str, Any]:
        """The epoch as a JSON object."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Epoch:
        """The epoch that `row` describes.

        >>> epoch = Epoch(1, 0.5, 0.75, 0.625, 0.5, 1.5, (LayerActivity("neuron1", "LIFNode", 8, 0.125, 0.25),))
        >>> Epoch.from_row(epoch.row()) == epoch
        True
        """
        if not isinstance(row, Mapping) or not isinstance(row["layers"], Sequence):
            raise TypeError(f"an epoch is an object with layers, but got {row!r:.60}")
        return cls(**{**row, "layers": tuple(LayerActivity(**layer) for layer in row["layers"])})


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did with one sample.

    - `spikes`: `[T, F]`, the outputs of the F neurons.
    - `potential`: `[T, F]`, the membrane potential after each step.
    - `threshold`: the potential at which all its neurons fire, or None where there is no such number.
    - `reset`: the potential after a spike, or None where there is no such number, as with a soft reset.
    """

    name: str
    kind: str
    spikes: Array
    potential: Array
    threshold: float | None = None
    reset: float | None = None


@dataclass(frozen=True)
class SampleView:
    """What a network did with one sample.

    - `image`: `[H, W]`.
    - `label`: its true class.
    - `readout`: `[T, C]`, the output of the network at each step.
    - `layers`: the layers of neurons from input to output.
    - `trained_steps`: the number of steps that the network was trained with.
    """

    image: Array
    label: int
    readout: Array
    layers: tuple[LayerTrace, ...]
    trained_steps: int

    @property
    def belief(self) -> Array:
        """The probability of each class from the readout up to each step, `[T, C]`."""
        steps = np.arange(1, len(self.readout) + 1, dtype=np.float32)[:, None]
        mean = np.cumsum(self.readout, 0) / steps
        power = np.exp(mean - mean.max(1, keepdims=True))
        return np.asarray(power / power.sum(1, keepdims=True))

    @property
    def answer(self) -> int:
        """The class that the network believes in at the end."""
        return int(self.belief[-1].argmax())
