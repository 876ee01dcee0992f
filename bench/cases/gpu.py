"""SpikingJelly's own Triton case: the LIF layer in fp16 on [T, 64, 65536]."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..harness import Options, Row, agreement, measure
from ..rivals import forward_call, gradients, lif, ours, training_call

__all__ = ["rows"]

GROUP = "gpu"


def rows(options: Options) -> Iterator[Row]:
    """In copies, so that the forward row says its share of the copy bandwidth."""
    if not torch.cuda.is_available():
        yield Row(GROUP, "LIF fp16 [T, 64, 65536]", "forward + backward", "copies", None, note="no GPU on this machine")
        return
    for T in (4, 8, 16, 32):
        torch.manual_seed(0)
        shape = (T, 64, options.size(65_536, 4_096))
        x_seq = torch.randn(shape, device="cuda", dtype=torch.float16) + 0.5
        g = torch.randn(shape, device="cuda", dtype=torch.float16)
        layers = {"ours": ours()}
        rival = lif("spikingjelly")
        if rival is not None:
            layers["spikingjelly"] = rival
        expected = gradients(layers["ours"], x_seq, g)
        found = {k: agreement(expected, gradients(v, x_seq, g)) for k, v in layers.items() if k != "ours"}
        y = torch.empty_like(x_seq)
        copy = {"copy": lambda y=y, x_seq=x_seq: y.copy_(x_seq)}
        case = "LIF fp16 [{}, {}, {}]".format(*shape)
        calls = copy | {k: forward_call(v, x_seq) for k, v in layers.items()}
        yield from measure(GROUP, case, "forward", calls, found, options)
        calls = copy | {k: training_call(v, x_seq, g) for k, v in layers.items()}
        yield from measure(GROUP, case, "forward + backward", calls, found, options)
