"""A GPU that is not there: Triton compiles and finds its code as on one, and what would be launched is handed over.

Tensors are those of a CPU, so that the way of a call through the host can be run and timed without a device:

    TRITON_INTERPRET=0 PYTHONPATH=src:. python -m bench.absent_gpu [words of a case]
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from spikescope import functional, layer, neuron
from spikescope.dynamics import run
from spikescope.dynamics.triton import arguments, launch

__all__ = ["Launched", "absent_gpu"]

Launched = Callable[[str, tuple[Any, ...], dict[str, str]], None]
"""What takes the name of a kernel, its arguments, and the types that its code was compiled for."""

SHAPES = {"s": ((16, 128), (64, 64, 28, 28)), "m": ((4, 16, 512), (8, 16, 64, 28, 28))}


class _Driver:
    """What Triton asks of a driver, with answers of a device of the architecture `arch`."""

    def __init__(self, arch: int, launched: Launched) -> None:
        from triton.backends.compiler import GPUTarget

        self.target, self.launched = GPUTarget("cuda", arch, 32), launched
        self.utils = SimpleNamespace(
            load_binary=lambda name, *_: (name, name, 32, 0, 1024),
            unload_module=lambda module: None,
            get_device_properties=lambda device: {"max_shared_mem": 1 << 17},
        )

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """What launches a kernel: the grid, the stream, the function and what is asked of it come first, then whom to
        tell what of the launch.
        """
        types = dict(source.signature)

        def launch(
            x: int,
            y: int,
            z: int,
            stream: int,
            function: str,
            asked: Any,
            told: Any,
            enter: Any,
            leave: Any,
            *rest: Any,
        ) -> None:
            if enter is not None:
                enter(told)
            self.launched(function, rest, types)
            if leave is not None:
                leave(told)

        return launch


@contextmanager
def absent_gpu(launched: Launched = lambda name, arguments, types: None, arch: int = 90) -> Iterator[None]:
    """Have neurons of the backend 'triton' take tensors of the CPU for those of a GPU."""
    import triton

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        yield

    driver = triton.runtime.driver
    with ExitStack() as stack:
        for place, name, held in (
            (arguments, "interpreted", lambda: False),
            (launch, "interpreted", lambda: False),
            (run, "_fused_backend", lambda backend, device: ("triton", "")),
            (torch.cpu, "device", current),
            (torch.cpu, "current_device", lambda: None),  # the index of a CPU
            (driver, "_active", _Driver(arch, launched)),
        ):
            stack.enter_context(mock.patch.object(place, name, held, create=True))
        yield


def _least(work: Callable[[], Any], repeats: int = 300) -> float:
    """Microseconds of a call, the least of many: what else runs on the machine only adds."""
    for _ in range(20):
        work()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return min(taken) * 1e6


def _calls(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Microseconds of the host from rest, without what the driver takes for a launch."""
    g, leaf = torch.rand_like(x), x.clone().requires_grad_()

    def forward() -> Tensor:
        functional.reset_net(net)
        y: Tensor = net(x)
        return y

    wanted = [leaf, *net.parameters()]

    def both() -> None:
        functional.reset_net(net)
        torch.autograd.grad(net(leaf), wanted, g)

    return {"forward": _least(forward), "forward + backward": _least(both)}


def _cases() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Layers and what they are given: as small as a step of control, and as a batch of images."""
    for mode, shapes in SHAPES.items():
        for shape in shapes:
            for cls in (neuron.LIFNode, neuron.ParametricLIFNode, neuron.IzhikevichNode):
                if cls is neuron.LIFNode or shape == shapes[0]:
                    case = f"{cls.__name__}, {'one step' if mode == 's' else 'a sequence'} {list(shape)}"
                    yield case, cls(step_mode=mode, backend="triton"), torch.rand(shape)
    shape = (4, 8, 8, 14, 14)
    yield f"LIFNode, a sequence {list(shape)}", neuron.LIFNode(step_mode="m", backend="triton"), torch.rand(shape)
    for cls in (neuron.LIFNode, neuron.ParametricLIFNode):
        net = nn.Sequential(layer.BatchNorm2d(8), cls(backend="triton"))
        functional.set_step_mode(net, "m")
        pair = functional.fuse_bn_neurons(net, training=True)
        yield f"BatchNorm2d and {cls.__name__} fused, a sequence {list(shape)}", pair, torch.rand(shape)
    x = torch.rand(32, 8, 14, 14, dtype=torch.bfloat16).to(memory_format=torch.channels_last).unflatten(0, (4, 8))
    yield f"the same in bfloat16, channels last, a sequence {list(shape)}", pair, x


def main() -> int:
    """Print a line a case: the microseconds, as JSON."""
    if os.environ.get("TRITON_INTERPRET") != "0":
        sys.exit("Set TRITON_INTERPRET=0: the interpreter has a way of its own.")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    with absent_gpu():
        for case, net, x in _cases():
            if wanted in case:
                print(json.dumps({"case": case, "us": _calls(net, x)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
