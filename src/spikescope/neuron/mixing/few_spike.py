"""Few-spike neurons: a value is coded by K weighted spikes, whose thresholds and weights stand in a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ...base import StepModule
from ...errors import ShapeError, check_floating, dims
from ...surrogate import Sigmoid, Surrogate

__all__ = ["FewSpikeNode", "FewSpikeTable", "HGNode", "OutlierAwareThresholdNode"]

Numbers = Tensor | Sequence[float]
Rows = Iterable[tuple[Tensor, Tensor, Tensor]]


def _numbers(name: str, given: Numbers) -> Tensor:
    held = torch.as_tensor(given).detach().clone()
    if held.is_complex():
        raise TypeError(f"FewSpikeTable: {name} must be real numbers, but got the dtype {held.dtype}.")
    held = held if held.is_floating_point() else held.to(torch.get_default_dtype())
    if held.ndim != 1 or not held.numel() or not bool(held.isfinite().all()):
        raise ValueError(f"FewSpikeTable: {name} must be a row of finite numbers, but got {given!r}.")
    return held


class FewSpikeTable:
    """The codes of K steps: a spike at `theta[k]` takes `h[k]` from the potential and stands for `d[k]`."""

    def __init__(self, theta: Numbers, h: Numbers, d: Numbers) -> None:
        self.theta, self.h, self.d = _numbers("theta", theta), _numbers("h", h), _numbers("d", d)
        if not len(self.theta) == len(self.h) == len(self.d):
            raise ValueError(
                f"FewSpikeTable: theta, h and d must be equally long, but have {len(self.theta)}, {len(self.h)} and "
                f"{len(self.d)} numbers."
            )

    @property
    def K(self) -> int:
        """The number of steps."""
        return len(self.theta)


def _check_table(owner: str, name: str, table: object, steps: int | None = None) -> FewSpikeTable:
    if not isinstance(table, FewSpikeTable):
        raise TypeError(f"{owner}: {name} must be a FewSpikeTable, but got {table!r}.")
    if steps not in (None, table.K):
        raise ValueError(f"{owner}: all tables must have {steps} steps like the first, but {name} has {table.K}.")
    return table


class _Coded(nn.Module, StepModule):
    """What all few-spike neurons do with the rows that a value meets."""

    surrogate_function: Surrogate

    def __init__(self, surrogate_function: Surrogate | None, step_mode: str) -> None:
        super().__init__()
        self.surrogate_function = Sigmoid() if surrogate_function is None else surrogate_function
        self.step_mode = step_mode

    @property
    def K(self) -> int:
        """The number of spikes that code a value, and of the steps of a sequence."""
        raise NotImplementedError

    def _coded(self, gate: Tensor) -> list[Tensor]:
        """What each step gives for a value."""
        raise NotImplementedError

    def _run(self, v: Tensor, rows: Rows) -> list[Tensor]:
        given = []
        for theta, h, d in rows:
            spike = self.surrogate_function(v - theta)
            given.append(d * spike)
            v = v - h * spike
        return given

    def single_step_forward(self, x: Tensor) -> Tensor:
        """Of values `[N, *]` their codes, summed."""
        check_floating(type(self).__name__, x)
        return torch.stack(self._coded(x)).sum(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Of a sequence `[K, N, *]` the code of its sum, step by step."""
        owner = type(self).__name__
        check_floating(owner, x_seq)
        if x_seq.ndim < 1 or len(x_seq) != self.K:
            raise ShapeError(
                f"{owner} codes by K={self.K} steps, but the input has the shape {dims(x_seq.shape)}. Give it a "
                f"sequence [{self.K}, N, *], or values with step_mode='s'."
            )
        return torch.stack(self._coded(x_seq.sum(0)))

    def forward(self, x: Tensor) -> Tensor:
        """Values or a sequence, by `step_mode`."""
        return self.single_step_forward(x) if self.step_mode == "s" else self.multi_step_forward(x)

    def extra_repr(self) -> str:
        return f"K={self.K}, step_mode={self.step_mode}"


class FewSpikeNode(_Coded):
    r"""Codes a value by K spikes of a table.

    $$z_k = \Theta(V_k - \theta_k) \qquad V_{k+1} = V_k - h_k z_k \qquad y = \sum_k d_k z_k, \qquad V_1 = x$$

    In `step_mode='s'` a call takes values and gives $y$; in `'m'` it takes sequences of K steps, whose sum is $x$, and
    gives $d_k z_k$ for each step. Nothing is kept between calls.

    - `table`: a `FewSpikeTable`.
    - `surrogate_function`: the gradient of a spike.

    Stöckl and Maass, *Optimized spiking neurons can classify images with high accuracy through temporal coding with two
    spikes* (Nature Machine Intelligence 2021).

    >>> node = FewSpikeNode(FewSpikeTable([4.0, 2.0, 1.0], [4.0, 2.0, 1.0], [4.0, 2.0, 1.0]))
    >>> node(torch.tensor([5.5, 9.0, -1.0]))  # binary digits, from 0 to 7
    tensor([5., 7., 0.])
    """

    theta: Tensor
    h: Tensor
    d: Tensor

    def __init__(self, table: FewSpikeTable, surrogate_function: Surrogate | None = None, step_mode: str = "s") -> None:
        super().__init__(surrogate_function, step_mode)
        table = _check_table(type(self).__name__, "table", table)
        for name in ("theta", "h", "d"):
            self.register_buffer(name, getattr(table, name).clone())

    @property
    def K(self) -> int:
        return len(self.theta)

    def _coded(self, gate: Tensor) -> list[Tensor]:
        return self._run(gate, zip(self.theta, self.h, self.d, strict=True))


class OutlierAwareThresholdNode(FewSpikeNode):
    r"""Codes a magnitude by one of two tables, the second for outliers, and gives it its sign.

    - `table`, `outlier_table`: for magnitudes up to `split_threshold`, and above.
    - `clamp_value`: None, or the largest magnitude.

    *LAS: loss-less ANN-SNN conversion for fully spike-driven large language models* (2025).

    >>> fine, coarse = (FewSpikeTable(*[[2 * step, step]] * 3) for step in (1.0, 4.0))
    >>> OutlierAwareThresholdNode(fine, coarse, 4.0)(torch.tensor([3.0, -9.0]))
    tensor([ 3., -8.])
    """

    outlier_theta: Tensor
    outlier_h: Tensor
    outlier_d: Tensor

    def __init__(
        self,
        table: FewSpikeTable,
        outlier_table: FewSpikeTable,
        split_threshold: float,
        clamp_value: float | None = None,
        surrogate_function: Surrogate | None = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__(table, surrogate_function, step_mode)
        owner = type(self).__name__
        outlier_table = _check_table(owner, "outlier_table", outlier_table, table.K)
        if not (math.isfinite(split_threshold) and split_threshold >= 0):
            raise ValueError(f"{owner}: split_threshold must be finite and at least 0, but got {split_threshold!r}.")
        if clamp_value is not None and not (split_threshold <= clamp_value < math.inf and clamp_value > 0):
            raise ValueError(
                f"{owner}: clamp_value must be finite, above 0 and at least split_threshold={split_threshold}, but got "
                f"{clamp_value!r}."
            )
        for name in ("theta", "h", "d"):
            self.register_buffer(f"outlier_{name}", getattr(outlier_table, name).to(getattr(self, name)))
        self.split_threshold, self.clamp_value = float(split_threshold), clamp_value

    def _coded(self, gate: Tensor) -> list[Tensor]:
        if self.clamp_value is not None:
            gate = gate.clamp(-self.clamp_value, self.clamp_value)
        sign, size = gate.detach().sign(), gate.abs()
        usual = size <= self.split_threshold
        pairs = ((self.theta, self.outlier_theta), (self.h, self.outlier_h), (self.d, self.outlier_d))
        rows = zip(*(_chosen(usual, one, other) for one, other in pairs), strict=True)
        return [sign * given for given in self._run(size, rows)]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, split_threshold={self.split_threshold}, clamp_value={self.clamp_value}"


def _chosen(usual: Tensor, ones: Tensor, others: Tensor) -> list[Tensor]:
    return [torch.where(usual, one, other) for one, other in zip(ones, others, strict=True)]


class HGNode(FewSpikeNode):
    r"""Codes a value by the table of the region that it lies in.

    - `tables`: one for each region, of equally many steps.
    - `gate_thresholds`: the growing bounds between the regions; a value equal to one belongs to the region below.

    *LAS: loss-less ANN-SNN conversion for fully spike-driven large language models* (2025).

    >>> low, high = FewSpikeTable([0.5], [0.5], [0.5]), FewSpikeTable([3.0], [3.0], [3.0])
    >>> HGNode([low, high], [1.0])(torch.tensor([0.25, 1.0, 2.0, 3.5]))
    tensor([0.0000, 0.5000, 0.0000, 3.0000])
    """

    region_theta: Tensor
    region_h: Tensor
    region_d: Tensor
    gate_thresholds: Tensor

    def __init__(
        self,
        tables: Sequence[FewSpikeTable],
        gate_thresholds: Numbers,
        surrogate_function: Surrogate | None = None,
        step_mode: str = "s",
    ) -> None:
        _Coded.__init__(self, surrogate_function, step_mode)  # it has tables of its own
        owner = type(self).__name__
        if not tables:
            raise ValueError(f"{owner}: there is no table. Give it one for each region.")
        first = _check_table(owner, "tables[0]", tables[0])
        for number, table in enumerate(tables):
            _check_table(owner, f"tables[{number}]", table, first.K)
        bounds = torch.as_tensor(gate_thresholds).to(first.theta)
        if bounds.shape != (len(tables) - 1,) or not bool(bounds.isfinite().all() and (bounds.diff() > 0).all()):
            raise ValueError(
                f"{owner}: gate_thresholds must be {len(tables) - 1} growing finite numbers, one less than tables, but "
                f"got {gate_thresholds!r}."
            )
        for name in ("theta", "h", "d"):
            self.register_buffer(
                f"region_{name}", torch.stack([getattr(table, name).to(first.theta) for table in tables])
            )
        self.register_buffer("gate_thresholds", bounds)

    @property
    def K(self) -> int:
        return self.region_theta.shape[1]

    def _coded(self, gate: Tensor) -> list[Tensor]:
        region = torch.bucketize(gate.detach(), self.gate_thresholds)
        steps = zip(self.region_theta.T, self.region_h.T, self.region_d.T, strict=True)
        return self._run(gate, ((theta[region], h[region], d[region]) for theta, h, d in steps))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, regions={len(self.region_theta)}, gate_thresholds={self.gate_thresholds}"
