"""Populations whose neurons are connected among themselves: the spikes of a step are an input of the next one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...base import MultiStepModule
from ...errors import ShapeError, check_floating, check_sequence, dims
from ...surrogate import Rect, Surrogate
from ..integrate import IFNode
from ..synaptic import CUBALIFNode
from .hooks import AroundNode

__all__ = ["ILCBaseNode", "ILCCUBALIFNode", "ILCIFNode", "ILCLIFNode", "Population", "current_based"]


def current_based(
    c_decay: float, v_decay: float, v_threshold: float, v_reset: float | None, surrogate_function: Surrogate | None
) -> CUBALIFNode:
    """A `CUBALIFNode`; with `c_decay=0` the current is the input."""
    return CUBALIFNode(
        c_decay=c_decay,
        v_decay=v_decay,
        v_threshold=v_threshold,
        v_reset=v_reset,
        surrogate_function=surrogate_function or Rect(),
    )


class Population(AroundNode, MultiStepModule):
    """Groups of neurons that see their own last spikes through a convolution `conn` of each group."""

    owns_children_step_mode = True

    def __init__(self, node: nn.Module, act_dim: int, dec_pop_dim: int) -> None:
        nn.Module.__init__(self)
        self.act_dim, self.dec_pop_dim = act_dim, dec_pop_dim
        self.out_pop_dim = act_dim * dec_pop_dim
        self.conn = nn.Conv1d(act_dim, self.out_pop_dim, dec_pop_dim, groups=act_dim)
        self.node = node

    def _fed_back(self, spike: Tensor) -> Tensor:
        grouped = spike.reshape(-1, self.act_dim, self.dec_pop_dim)
        fed: Tensor = self.conn(grouped)
        return fed.reshape(-1, self.out_pop_dim)

    def _noisy_input(self, t: int, x: Tensor) -> Tensor:
        return x

    def _noisy_output(self, t: int, spike: Tensor) -> Tensor:
        return spike

    def forward(self, x_seq: Tensor) -> Tensor:
        """Spikes `[T, N, act_dim * dec_pop_dim]`, from rest."""
        owner = type(self).__name__
        check_floating(owner, x_seq)
        check_sequence(owner, x_seq)
        if x_seq.ndim != 3 or x_seq.shape[-1] != self.out_pop_dim or not len(x_seq):
            raise ShapeError(
                f"{owner} takes [T, N, {self.out_pop_dim}] for {self.act_dim} groups of {self.dec_pop_dim} neurons, "
                f"but got {dims(x_seq.shape)}."
            )
        self.node.reset()
        step = self.node
        if self._by_hooks():
            self.init_tensor(x_seq[0])
            step = self._stepped
        given: list[Tensor] = []
        for t, x in enumerate(x_seq):
            fed = x + self._fed_back(given[-1]) if given else x
            given.append(self._noisy_output(t, step(self._noisy_input(t, fed))))
        return torch.stack(given)


class ILCBaseNode(Population):
    """Base of the populations without noise.

    A subclass writes `neuronal_charge(x)`, which assigns `self.v`, and `init_tensor(data)` where it has more states.

    >>> class Summing(spikescope.neuron.mixing.ILCBaseNode):
    ...     def neuronal_charge(self, x):
    ...         self.v = self.v + x
    >>> Summing(1, 2, v_threshold=0.5)(torch.rand(3, 1, 2)).shape
    torch.Size([3, 1, 2])
    """

    def __init__(
        self,
        act_dim: int,
        dec_pop_dim: int,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        *,
        node: nn.Module | None = None,
    ) -> None:
        super().__init__(self._inner(node, v_threshold, v_reset, surrogate_function), act_dim, dec_pop_dim)


class ILCIFNode(ILCBaseNode):
    r"""Integrate-and-fire neurons with connections inside their layer: $H_t = V_{t-1} + X_t + C(S_{t-1})$.

    $C$ is a convolution with a bias over the neurons of each group. Each call begins at rest, and takes `[T, N, *]`.

    - `act_dim`, `dec_pop_dim`: the groups, one for each action, and the neurons of a group.

    Chen et al., *Fully spiking actor network with intra-layer connections for reinforcement learning* (IEEE TNNLS
    2024).

    >>> node = ILCIFNode(1, 2)
    >>> with torch.no_grad():
    ...     _ = node.conn.weight.fill_(0.5), node.conn.bias.zero_()
    >>> node(torch.tensor([[[1.0, 0.0]], [[0.0, 0.5]]])).tolist()  # the first one's spike lifts both by 0.5
    [[[1.0, 0.0]], [[0.0, 1.0]]]
    """

    def __init__(
        self,
        act_dim: int,
        dec_pop_dim: int,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
    ) -> None:
        surrogate_function = surrogate_function or Rect()
        node = IFNode(v_threshold=v_threshold, v_reset=v_reset, surrogate_function=surrogate_function)
        super().__init__(act_dim, dec_pop_dim, node=node)


class ILCLIFNode(ILCBaseNode):
    r"""As `ILCIFNode`, with $H_t = d_v V_{t-1} + X_t + C(S_{t-1})$.

    - `v_decay`: $d_v$, the part of the potential that a step leaves.

    Chen et al., *Fully spiking actor network with intra-layer connections for reinforcement learning* (IEEE TNNLS
    2024).
    """

    def __init__(
        self,
        act_dim: int,
        dec_pop_dim: int,
        v_decay: float = 0.75,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
    ) -> None:
        node = current_based(0.0, v_decay, v_threshold, v_reset, surrogate_function)
        super().__init__(act_dim, dec_pop_dim, node=node)


class ILCCUBALIFNode(ILCBaseNode):
    r"""As `ILCIFNode`, with a synaptic current: $I_t = d_c I_{t-1} + X_t + C(S_{t-1})$ and $H_t = d_v V_{t-1} + I_t$.

    - `c_decay`, `v_decay`: $d_c$ and $d_v$, the parts of current and potential that a step leaves.

    Chen et al., *Fully spiking actor network with intra-layer connections for reinforcement learning* (IEEE TNNLS
    2024).
    """

    def __init__(
        self,
        act_dim: int,
        dec_pop_dim: int,
        c_decay: float = 0.5,
        v_decay: float = 0.75,
        v_threshold: float = 0.5,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
    ) -> None:
        node = current_based(c_decay, v_decay, v_threshold, v_reset, surrogate_function)
        super().__init__(act_dim, dec_pop_dim, node=node)
