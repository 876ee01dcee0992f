"""Registers and spilled bytes of the kernels, compiled as a call has them, for two GPUs that are not here.

    TRITON_INTERPRET=0 PYTHONPATH=src:. python tests/sweeps/triton_registers.py [--sample]

A line a kernel, read from the machine code by the tool that comes with Triton. What spills is slow; of 64 registers a
thread and fewer a processor of these GPUs holds as many threads as it can keep busy with memory.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "dynamics"))

import torch
import triton
from bench.absent_gpu import absent_gpu
from dynamics_cases import NEURONS
from torch import nn

from spikescope import functional, layer
from spikescope.dynamics.triton import gpu, launch

TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SAMPLE = ("LIFNode", "IzhikevichNode")


def usage(code):
    """Registers, and bytes of the stack, where a thread keeps what it has no register for."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(code)
        told = subprocess.run([TOOL, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    return tuple(int(re.search(rf"{name}:(\d+)", told.stdout)[1]) for name in ("REG", "STACK"))


def compiled():
    """All that Triton has compiled for the device of now, by the name of the kernel."""
    for kernel in {launcher.kernel for launcher in launch._launchers.values()}:
        yield from kernel.device_caches[0][0].values()


def run(cls, dtype, T, behind):
    """A training step of the neuron, behind a normalisation where that is asked for."""
    node = cls(**cls.example, backend="triton")
    net = nn.Sequential(layer.BatchNorm2d(32), node)
    functional.set_step_mode(net, "m")
    net = functional.fuse_bn_neurons(net, training=True) if behind else nn.Sequential(net[1])
    x = torch.rand(T, 2, 32, 8, 8, dtype=dtype, requires_grad=True)
    y = net(x)
    torch.autograd.grad(y, [x, *net.parameters()], torch.ones_like(y), allow_unused=True)


def main():
    """Print a line a kernel that is new; the status says whether one spills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="two neurons alone, on one GPU")
    sample = parser.parse_args().sample
    spilled = 0
    for arch in (90,) if sample else (80, 90):
        for cls in NEURONS:
            if sample and cls.__name__ not in SAMPLE:
                continue
            for dtype in (torch.float32,) if sample else (torch.float32, torch.float16):
                for behind in (False, True):
                    launch._launchers.clear()
                    gpu.forward_kernel.cache_clear()
                    gpu.backward_kernel.cache_clear()
                    with absent_gpu(arch=arch):
                        run(cls, dtype, cls.example.get("T", 9), behind)
                        for code in compiled():
                            registers, stack = usage(code.asm["cubin"])
                            spilled += stack > 0
                            where = f"{cls.__name__} {str(dtype)[6:]} sm_{arch}" + " behind a norm" * behind
                            print(f"{where}: {code.name}: {registers} registers, {stack} bytes spilled", flush=True)
    print(f"Triton {triton.__version__}: {spilled} kernels spill")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
