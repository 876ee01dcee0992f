"""Part (b): kernels as shares of the bandwidth of a copy, and layers against SpikingJelly's Triton in the same run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import functional, layer, neuron
from spikescope.dynamics.triton.kernel import BACKWARD, FORWARD

from .tell import Part, rival

DTYPES = (torch.float16, torch.float32, torch.bfloat16)
OUR_KERNELS = (FORWARD, BACKWARD)


def main() -> None:
    """The largest case first, which is the most telling."""
    part, theirs = Part(), rival()
    for T in (4,) if part.rehearse else (16, 4, 32, 8):
        for dtype in DTYPES:
            part.attempt(f"LIF T={T} {dtype}", partial(_lif, part, theirs, T, dtype))
    for shape in ((4, 16, 512), (16, 32, part.size(4096, 16)), (1, 16, 128)):
        part.attempt(f"LIF {shape}", partial(_small, part, theirs, shape))
    part.attempt("Linear + LIF", partial(_linear, part, theirs))
    for dtype in DTYPES:
        part.attempt(f"BatchNorm2d + LIF {dtype}", partial(_norm, part, dtype))


def _calls(node: nn.Module, x: Tensor, g: Tensor) -> dict[str, Callable[[], Any]]:
    """Forward alone, and forward and backward, from rest."""
    leaf = x.clone().requires_grad_()

    def forward() -> None:
        node.reset()
        with torch.no_grad():
            node(x)

    def both() -> None:
        node.reset()
        torch.autograd.grad(node(leaf), leaf, g)

    return {"forward": forward, "forward + backward": both}


def _their_lif(theirs: Any, device: torch.device) -> nn.Module | None:
    """Their LIF layer, on the backend of Triton where they have one."""
    if isinstance(theirs, str):
        return None
    node: nn.Module = theirs[0].LIFNode(step_mode="m").to(device)
    if device.type == "cuda" and "triton" in getattr(node, "supported_backends", ()):
        node.backend = "triton"
    return node


def _lif(part: Part, theirs: Any, T: int, dtype: torch.dtype) -> None:
    """The LIF layer on [T, 64, 65536], in copies of its input: 1 is the limit forwards, 1.5 backwards."""
    x = (torch.rand(T, part.size(64, 2), part.size(65536, 32), device=part.device) * 1.5).to(dtype)
    g, y = torch.rand_like(x), torch.empty_like(x)
    copy = part.times(lambda: y.copy_(x))["event_ms"]
    ours, other = neuron.LIFNode(step_mode="m").to(part.device), _their_lif(theirs, part.device)
    same = _agree(ours, other, x)
    found = part.kernels(_calls(ours, x, g)["forward + backward"])
    own = {name: sum(ms for key, ms in found.items() if name in key) for name in OUR_KERNELS}
    case = f"LIF {list(x.shape)} {str(dtype).removeprefix('torch.')}"
    part.row(
        case=case,
        what="kernels alone",
        copy_ms=copy,
        tb_per_s=2 * x.numel() * x.element_size() / copy / 1e9,
        forward_copies=own[FORWARD] / copy if found else None,
        backward_copies=own[BACKWARD] / copy if found else None,
        spikes=same,
    )
    _against(part, case, _calls(ours, x, g), _calls(other, x, g) if other else {}, theirs, copy)


def _agree(ours: nn.Module, other: nn.Module | None, x: Tensor) -> str:
    """Whether both fire at the same places."""
    if other is None:
        return ""
    ours.reset()
    other.reset()
    with torch.no_grad():
        off = (ours(x) != other(x)).double().mean().item()
    return "equal" if off == 0 else f"{off:.1e} differ"


def _against(part: Part, case: str, ours: Any, others: Any, theirs: Any, copy: float | None = None) -> None:
    """A row a call: device and host time of ours, of the rival, and what a call is in copies."""
    for what, work in ours.items():
        row: dict[str, Any] = {"case": case, "what": what, **part.times(work)}
        if copy is not None:
            row["copies"] = row["event_ms"] / copy
        if what in others:
            try:
                row |= {f"rival_{name}": held for name, held in part.times(others[what]).items()}
                row["ratio"] = row["rival_event_ms"] / row["event_ms"]
            except Exception as error:
                row["rival"] = f"{type(error).__name__}: {str(error)[:80]}"
        else:
            row["rival"] = theirs if isinstance(theirs, str) else ""
        part.row(**row)


def _small(part: Part, theirs: Any, shape: tuple[int, ...]) -> None:
    """Where the host is what takes time."""
    x = torch.rand(*shape, device=part.device) * 2
    ours, other = neuron.LIFNode(step_mode="m").to(part.device), _their_lif(theirs, part.device)
    calls = _calls(other, x, torch.rand_like(x)) if other else {}
    _against(part, f"LIF {list(shape)} float32", _calls(ours, x, torch.rand_like(x)), calls, theirs)


def _linear(part: Part, theirs: Any) -> None:
    """Linear(n, n) + LIF on a batch of 16."""
    n, T = part.size(4096, 32), part.size(500, 4)
    x = torch.randn(T, 16, n, device=part.device)
    nodes = {"ours": neuron.LIFNode(step_mode="m"), "theirs": _their_lif(theirs, part.device)}
    calls = {}
    for name, node in nodes.items():
        if node is not None:
            linear = nn.Linear(n, n, bias=False, device=part.device)
            net = _Whole(nn.Sequential(linear, node.to(part.device)))
            calls[name] = _calls(net, x, torch.rand_like(x))
    _against(part, f"Linear({n}, {n}) + LIF, T={T}", calls["ours"], calls.get("theirs", {}), theirs)


def _norm(part: Part, dtype: torch.dtype) -> None:
    """A normalisation and its neuron in training, as one run and apart, in copies of their input.

    By bytes the run is 1.5 copies forwards and 2.5 backwards, the two apart 2.5 and 4 at their best.
    """
    shape = (8, part.size(128, 2), part.size(64, 4), part.size(28, 3), part.size(28, 3))
    x = torch.rand(*shape, device=part.device).to(dtype)
    g, y = torch.rand_like(x), torch.empty_like(x)
    copy = part.times(lambda: y.copy_(x))["event_ms"]
    apart = nn.Sequential(layer.BatchNorm2d(x.shape[2]), neuron.LIFNode()).to(part.device)
    functional.set_step_mode(apart, "m")
    for whose, net in (("fused", functional.fuse_bn_neurons(apart, training=True)), ("apart", apart)):
        what = "forward + backward"
        row = part.times(_calls(_Whole(net), x, g)[what])
        case = f"BatchNorm2d + LIF {list(x.shape)} {str(dtype).removeprefix('torch.')}"
        part.row(case=case, what=f"{what}, {whose}", **row, copies=row["event_ms"] / copy)


class _Whole(nn.Module):
    """A network that is reset as one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def reset(self) -> None:
        functional.reset_net(self.net)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


if __name__ == "__main__":
    main()
