"""Compile the Triton kernels of every neuron to PTX for two GPUs, and read there whether they keep PyTorch's bits.

    PYTHONPATH=src python tests/sweeps/triton_ptx.py [--sample]

No GPU and no assembler is needed. Forwards, where the spikes must be those of the eager loop, a kernel of exact
operations may fuse no product with a sum, divide by no approximation and flush no subnormal number to zero: the eager
loop does none of it. `make triton` does it for the oldest Triton that
is supported and the newest.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "0"  # before triton is imported
sys.path.insert(0, str(Path(__file__).parents[1] / "dynamics"))

import torch
import triton
from dynamics_cases import NEURONS, make, unround
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource

from spikescope.dynamics import layout
from spikescope.dynamics.graphs import program
from spikescope.dynamics.graphs.ops import CUDA, meaning
from spikescope.dynamics.triton import gpu, launch
from spikescope.dynamics.triton.kernel import TRIAL, Form, trial_source

INEXACT = ("fma.rn", "div.full", "div.approx", ".ftz")
WHOLE = ("cvt.rmi.ftz.f32.f32", "cvt.rpi.ftz.f32.f32")  # floor and ceil: what they flush, math.txt asks before
SAMPLE = ("LIFNode", "AdaptiveLIFNode", "LIAFNode")  # with one state, with two, with a function
TAPS = layout.kinds_of_taps(frozenset([*layout.TAPS, layout.support_tap(1.0, -0.5, 0.5)]))
OF_TAPS = {"TAP0": "*u8", "TAP1": "*u8", "TAP3": "*fp64", "TAP4": "*i64"}
SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


def ptx(kernel, io, real, arch, constants):
    """The text of a kernel for the architecture, with the arguments as a call would have them."""
    CUDABackend.make_cubin = lambda *_: b""  # what comes after PTX is not looked at
    types = {param.name: _type(param, SHORT[io], SHORT[real]) for param in kernel.params}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, types, constexprs=places)
    options = {"num_warps": 2, "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options).asm["ptx"]


def _type(param, io, real):
    name = param.name
    if param.is_constexpr:
        return "constexpr"
    if param.annotation:
        return param.annotation
    if name in ("X", "Y", "GX", "GY"):
        return f"*{io}"
    if name in ("T", "n", "sx", "sgy") or name[0] == "L" or name.endswith("_period"):
        return "i32"
    return OF_TAPS.get(name, "*fp64" if name[0] == "P" else f"*{real}")


def kernels(cls, io, arch, learned):
    """The names and texts of a neuron's two kernels; with `learned` all fields and first states are tensors."""
    node = make(cls, "auto")
    if learned:
        unround(node, () if "inplane" not in cls.arguments.parameters else None)
    key = node._definition(node.params()).key
    made, real = program.program(key), layout.real_dtype(torch.empty(0, dtype=io))
    wanted = made.differentiable
    bodies = made.forward(real), made.backward(real, wanted)
    numbers = frozenset(name for body in bodies for name in body.numbers)
    form = Form(real, numbers, (not learned,) * made.states, gpu=True, cuda=True)
    keep = {"KEEP_V": True, "BLOCK": 256}
    forward = gpu.forward_kernel(key, form, TAPS)
    yield (
        "forward",
        ptx(forward, io, real, arch, {"K": 8, "KEEP_CK": True, **keep}),
        _of_functions(bodies[0], arch) if made.inexact(real, "triton") is None else None,
    )
    scalars = tuple(made.model.kinds[slot] == "s" for slot in wanted)
    backward = gpu.backward_kernel(key, form, wanted, layout.segment_length("triton", 100, made.states), scalars)
    yield "backward", ptx(backward, io, real, arch, {"HAS_CK": True, "HAS_G": True, **keep}), None


@cache
def _function(target, arch):
    """The text of a kernel that is a function alone."""
    kernel = getattr(launch.load(trial_source(CUDA[target])), TRIAL)
    return ptx(kernel, torch.float32, torch.float32, arch, {"BLOCK": 256})


def _of_functions(body, arch):
    """How often each of the words may stand in a kernel: as often as its functions have them."""
    found = Counter()
    for node in body.nodes:
        if meaning(node) in CUDA:
            found.update({word: _count(_function(meaning(node), arch), word) for word in INEXACT})
    return found


def _count(text, word):
    return re.sub("|".join(WHOLE), "", text).count(word)


def cases(sample):
    """Neuron, dtype of the input, architecture, and whether its fields and first states are tensors."""
    neurons = [cls for cls in NEURONS if not sample or cls.__name__ in SAMPLE]
    for cls in neurons:
        yield cls, torch.float32, 80, False
        if not sample or cls.__name__ != "LIAFNode":
            yield cls, torch.float16, 90, True
        if not sample:
            yield cls, torch.float32, 90, False
            yield cls, torch.bfloat16, 80, True
            yield cls, torch.float64, 90, False


def main():
    """Print a line a kernel that is wrong and one in the end; fail if there was one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="two neurons alone")
    done, wrong, begin = 0, 0, time.monotonic()
    for cls, io, arch, learned in cases(parser.parse_args().sample):
        where = f"{cls.__name__} {SHORT[io]} sm_{arch} {'tensors' if learned else 'numbers'}"
        try:
            for name, text, exact in kernels(cls, io, arch, learned):
                done += 1
                found = [word for word in INEXACT if exact is not None and _count(text, word) != exact[word]]
                wrong += bool(found)
                if found:
                    print(f"{where} {name}: {', '.join(found)}", flush=True)
        except Exception as error:
            done, wrong = done + 1, wrong + 1
            print(f"{where}: {type(error).__name__}: {str(error).strip().splitlines()[-1][:200]}", flush=True)
    seconds = time.monotonic() - begin
    print(f"Triton {triton.__version__}: {done} kernels, {wrong} wrong, {seconds:.0f} s", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
