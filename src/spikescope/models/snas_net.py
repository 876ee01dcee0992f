"""SNASNet: a network of two cells, whose connections, forwards and back in time, a search has found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from .. import layer, surrogate
from ..base import MemoryModule, SingleStepModule
from ..errors import ShapeError, check_choice, check_floating, check_whole, dims
from ..neuron import LIFNode

__all__ = ["SNASNet"]

_NODES = 4
_FORWARDS = [(row, column) for column in range(1, _NODES) for row in range(column)]
_BACK = [(row, column) for column in range(_NODES - 1) for row in range(column + 1, _NODES)]


class _Data(NamedTuple):
    """The sizes that go with a data set: a score is the mean over a cluster of outputs."""

    classes: int
    outputs: int
    size: int
    channels: int
    shrunk: int
    hidden: int
    stride: int


_DATA = {
    "cifar10": _Data(10, 100, 32, 256, 2, 1024, 1),
    "cifar100": _Data(100, 500, 32, 128, 2, 1024, 1),
    "tinyimagenet": _Data(200, 1000, 64, 128, 4, 4096, 2),
}


_OF_NEURONS = ("threshold", "tau")
_OF_NETWORKS = ("timestep", "dataset", "celltype", "second_avgpooling", *_OF_NEURONS)


def _check_args(owner: str, args: Any, names: tuple[str, ...]) -> None:
    """Refuse an object without one of these attributes."""
    missing = [name for name in names if not hasattr(args, name)]
    if missing:
        raise TypeError(
            f"{owner}: args must be an object with the attributes {', '.join(names)}, such as "
            f"types.SimpleNamespace({', '.join(f'{name}=...' for name in names)}), but {args!r} has no {missing[0]}."
        )


def _neuron(args: Any) -> LIFNode:
    return LIFNode(
        tau=args.tau, v_threshold=args.threshold, v_reset=0.0, surrogate_function=surrogate.ATan(), detach_reset=True
    )


class ScaleLayer(nn.Module):
    """What stands where two nodes are not connected: zeros.

    >>> ScaleLayer()(torch.ones(2))
    tensor([0., 0.])
    """

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.0), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """The input times zero."""
        return input * self.scale


def _connection(args: Any, kind: int, inputs: int, outputs: int) -> nn.Module:
    """What lies between two nodes: 0 nothing, 1 the value itself, 2 and 3 a convolution of 1x1 or 3x3, 4 a mean."""
    if kind == 0:
        return ScaleLayer()
    if kind == 1:
        return nn.Identity()
    if kind == 4:
        return layer.AvgPool2d(3, 1, 1)
    width = {2: 1, 3: 3}[kind]
    conv = layer.Conv2d(inputs, outputs, width, padding=width // 2, bias=False)
    return nn.Sequential(_neuron(args), conv, layer.BatchNorm2d(outputs))


def _kinds(con_mat: Any) -> list[list[int]]:
    """The matrix as whole numbers, or an error in words."""
    try:
        rows = [[float(held) for held in row] for row in con_mat]
    except (TypeError, ValueError):
        rows = []
    if [len(row) for row in rows] != [_NODES] * _NODES or any(held not in range(5) for row in rows for held in row):
        raise ValueError(
            "SNASNet: con_mat must have 4 rows of 4 whole numbers from 0 to 4, the kind of the connection from the "
            f"node of its row to that of its column, but got {con_mat!r}."
        )
    return [[int(held) for held in row] for row in rows]


class Cell(nn.Module):
    r"""Four nodes, the first the input, and each the sum of what comes from those before it.

    $$x_c = \sum_{r<c} f_{rc}(x_r)$$

    - `args.threshold`, `args.tau`: of the neurons. `con_mat`: the kind of each $f_{rc}$ in row r and column c.

    >>> from types import SimpleNamespace
    >>> args = SimpleNamespace(threshold=1.0, tau=4 / 3)
    >>> Cell(args, 1, 1, torch.ones(4, 4))(torch.ones(1, 1, 2, 2)).flatten()  # 1, then 1 + 1, then 1 + 1 + 2
    tensor([4., 4., 4., 4.])
    """

    def __init__(self, args: Any, in_channel: int, out_channel: int, con_mat: Any) -> None:
        super().__init__()
        _check_args(type(self).__name__, args, _OF_NEURONS)
        kinds = _kinds(con_mat)
        self.con_mat = con_mat
        made = (_connection(args, kinds[row][column], in_channel, out_channel) for row, column in _FORWARDS)
        self.cell_architecture = nn.ModuleList(made)

    def forward(self, x_in: Tensor) -> Tensor:
        """A step `[N, C, H, W]`."""
        return _forwards(self.cell_architecture, [x_in], [0.0] * _NODES)[-1]


def _forwards(connections: nn.ModuleList, nodes: list[Tensor], back: list[Any]) -> list[Tensor]:
    """All nodes, from the first one and what came back to each of them."""
    at = iter(connections)
    for column in range(1, _NODES):
        nodes = [*nodes, _sum(next(at)(nodes[row] + back[row]) for row in range(column))]
    return nodes


def _sum(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total


class FeedbackCell(MemoryModule):
    r"""A `Cell` whose later nodes come back to those before them at the next step.

    $$x_c = \sum_{r<c} f_{rc}(x_r + b_r) \qquad b_c \leftarrow \sum_{r>c} f_{rc}(x_r + b_r)$$

    where $b$ begins at zero, and the sums on the right take that of the same step. What leads back stands in the lower
    half of `con_mat`.

    >>> from types import SimpleNamespace
    >>> args = SimpleNamespace(threshold=1.0, tau=4 / 3)
    >>> cell = FeedbackCell(args, 1, 1, torch.ones(4, 4))
    >>> [cell(torch.ones(1, 1, 1, 1)).item() for _ in range(2)]
    [4.0, 48.0]
    """

    supported_step_modes: ClassVar[tuple[str, ...]] = ("s",)
    last_xin: Any
    last_x1: Any
    last_x2: Any

    def __init__(self, args: Any, in_channel: int, out_channel: int, con_mat: Any) -> None:
        super().__init__()
        _check_args(type(self).__name__, args, _OF_NEURONS)
        kinds = _kinds(con_mat)
        self.con_mat = con_mat
        for name, places in (("cell_architecture", _FORWARDS), ("cell_architecture_back", _BACK)):
            made = (_connection(args, kinds[row][column], in_channel, out_channel) for row, column in places)
            self.add_module(name, nn.ModuleList(made))
        for name in ("last_xin", "last_x1", "last_x2"):
            self.register_memory(name, 0.0)

    def single_step_forward(self, x_in: Tensor) -> Tensor:
        """A step `[N, C, H, W]`."""
        check_floating(type(self).__name__, x_in)
        forwards: Any = self.cell_architecture
        connections: Any = self.cell_architecture_back
        back = [self.last_xin, self.last_x1, self.last_x2, 0.0]
        nodes = _forwards(forwards, [x_in], back)
        at = iter(connections)
        self.last_xin, self.last_x1, self.last_x2 = (
            _sum(next(at)(nodes[row] + back[row]) for row in range(column + 1, _NODES)) for column in range(_NODES - 1)
        )
        return nodes[-1]


_CELLS: dict[str, type[nn.Module]] = {"forward": Cell, "backward": FeedbackCell}


class SNASNet(SingleStepModule, nn.Module):
    """A stem, two cells of the same connections with a pool behind each, and two linear layers, run for some steps.

    - `args`: an object with the attributes `timestep`, the number of steps; `dataset`, `'cifar10'`, `'cifar100'` or
      `'tinyimagenet'`, by which the sizes go; `celltype`, `'forward'`, or `'backward'` with connections back in time;
      `second_avgpooling`, the width of the second pool; `threshold` and `tau` of the neurons.
    - `con_mat`: 4 rows of 4 numbers, what connects the node of a row with the node of a column: 0 nothing, 1 the value
      itself, 2 and 3 a neuron with a convolution of 1x1 or 3x3, 4 a mean pool.

    An image `[N, 3, H, W]` to scores `[N, classes]`, the mean over its steps; `functional.reset_net` before the next.
    It has no sequences: it runs its steps itself.

    Kim et al., *Neural architecture search for spiking neural networks* (ECCV 2022), whose own matrix for CIFAR-100 is
    the one below.

    >>> from types import SimpleNamespace
    >>> args = SimpleNamespace(timestep=2, dataset="cifar100", celltype="backward", second_avgpooling=8)
    >>> args.threshold, args.tau = 1.0, 4 / 3
    >>> net = SNASNet(args, torch.tensor([[0, 3, 0, 2], [0, 0, 3, 0], [3, 0, 0, 3], [0, 0, 0, 0]]))
    >>> net(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 100])
    """

    def __init__(self, args: Any, con_mat: Any) -> None:
        super().__init__()
        _check_args("SNASNet", args, _OF_NETWORKS)
        check_choice("SNASNet", "args.dataset", args.dataset, _DATA)
        check_choice("SNASNet", "args.celltype", args.celltype, _CELLS)
        data, cell = _DATA[args.dataset], _CELLS[args.celltype]
        self.con_mat = con_mat
        self.total_timestep = check_whole("SNASNet", "args.timestep", args.timestep)
        self.second_avgpooling = check_whole("SNASNet", "args.second_avgpooling", args.second_avgpooling)
        self.num_class, self.num_final_neuron, self.img_size = data.classes, data.outputs, data.size
        few, many = data.channels, 2 * data.channels
        stem = layer.Conv2d(3, few, 3, data.stride, 1, bias=False)
        self.stem = nn.Sequential(stem, layer.BatchNorm2d(few))
        self.cell1 = cell(args, few, few, con_mat)
        conv = layer.Conv2d(few, many, 3, padding=1, bias=False)
        self.downconv1 = nn.Sequential(layer.BatchNorm2d(few), _neuron(args), conv, layer.BatchNorm2d(many))
        self.resdownsample1 = layer.AvgPool2d(2, 2)
        self.cell2 = cell(args, many, many, con_mat)
        self.last_act = nn.Sequential(layer.BatchNorm2d(many), _neuron(args))
        self.resdownsample2 = layer.AvgPool2d(self.second_avgpooling, self.second_avgpooling)
        side = data.size // (data.shrunk * self.second_avgpooling)
        if not side:
            most = data.size // data.shrunk
            raise ValueError(
                f"SNASNet: args.second_avgpooling must be at most {most}, but got {args.second_avgpooling}."
            )
        self.classifier = nn.Sequential(
            layer.Dropout(0.5),
            layer.Linear(many * side * side, data.hidden, bias=False),
            _neuron(args),
            layer.Linear(data.hidden, data.outputs),
        )
        cluster = data.outputs // data.classes
        self.boost = layer.AvgPool1d(cluster, cluster)
        self._draw()

    def _draw(self) -> None:
        """Draw the weights as the published code does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=2)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, input: Tensor) -> Tensor:
        """The scores `[N, classes]` of images `[N, 3, H, W]`."""
        check_floating("SNASNet", input)
        if input.ndim != 4 or tuple(input.shape[1:]) != (3, self.img_size, self.img_size):
            wanted = f"images [N, C=3, H={self.img_size}, W={self.img_size}]"
            raise ShapeError(f"SNASNet of this data set takes {wanted}, but got {dims(input.shape, 'NCHW')}.")
        self.neuron_init()
        seen = self.stem(input)
        scores = [self.boost(self._step(seen).unsqueeze(1)).squeeze(1) for _ in range(self.total_timestep)]
        return _sum(iter(scores)) / self.total_timestep

    def _step(self, seen: Tensor) -> Tensor:
        x = self.resdownsample1(self.downconv1(self.cell1(seen)))
        x = self.resdownsample2(self.last_act(self.cell2(x)))
        return self.classifier(x.flatten(1))

    def neuron_init(self) -> None:
        """Forget what the nodes of the cells gave back. The neurons keep their potentials until a reset."""
        for cell in (self.cell1, self.cell2):
            if isinstance(cell, FeedbackCell):
                cell.last_xin = cell.last_x1 = cell.last_x2 = 0.0
