"""Run programs and compare what came out: `python runner.py NAME` prints it as JSON.

A program says in capitals at its top what it belongs to and in what it may differ:

- `AGES`: the versions of SpikingJelly that it is written for; the stored numbers are those of the first.
- `CLOSE`: beginnings of the names of results that are rounded otherwise, with a relative tolerance and the reason.
- `DIFFERS`: beginnings of the names of results that are other numbers on purpose, with the reason.
- `RANKS`: it runs in so many processes, under `torchrun`.
"""

import ast
import contextlib
import hashlib
import importlib
import json
import math
import os
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent
RAW = 48
"""Tensors of at most so many numbers are told number by number, larger ones by sum and checksum."""


def said(name, what, default=None):
    """What a program says of itself at its top, without running it."""
    for node in ast.parse((HERE / f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == what:
            return ast.literal_eval(node.value)
    return default


def names():
    """The programs, by name."""
    others = {"data", "runner"}
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in others)


def told(result):
    """A result as JSON holds it, every number exact."""
    if isinstance(result, torch.Tensor):
        result = result.detach().contiguous()
        if result.numel() <= RAW:
            return result.tolist()
        checksum = hashlib.sha256(result.numpy().tobytes()).hexdigest()[:16]
        return {"shape": list(result.shape), "sum": result.double().sum().item(), "sha256": checksum}
    if isinstance(result, dict):
        return {key: told(held) for key, held in result.items()}
    return result


@contextlib.contextmanager
def one_thread():
    """Sums are split over threads, and rounded as they are split."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def eager():
    """All neurons of spikescope run the eager loop, whatever backend they are set to."""
    from spikescope.neuron import core

    held, short = (core.run_single, core.run_sequence), core.Shortcut.run
    core.run_single = lambda backend, *args: held[0]("torch", *args)
    core.run_sequence = lambda backend, *args: held[1]("torch", *args)
    core.Shortcut.run = lambda *args: None
    try:
        yield
    finally:
        core.run_single, core.run_sequence = held
        core.Shortcut.run = short


@contextlib.contextmanager
def imported(name):
    """The module of a program, new, with what is `spikingjelly` now."""
    sys.path.insert(0, str(HERE))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(HERE))
        for gone in ("data", name):
            sys.modules.pop(gone, None)


def run(name):
    """What the program gives, told."""
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with imported(name) as program:
            return told(program.main())


def probe():
    """A checksum of the arithmetic of PyTorch here: where it is the same, a program gives the same bits."""
    with one_thread():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sigmoid(), nn.Flatten(), nn.Linear(512, 10)
        )
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(2):
            loss = nn.functional.cross_entropy(net(torch.rand(8, 3, 8, 8)).exp(), torch.arange(8))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        numbers = torch.cat([p.detach().flatten() for p in net.parameters()] + [loss.detach().view(1)])
    return hashlib.sha256(numbers.numpy().tobytes()).hexdigest()[:16]


def leaves(result, path=""):
    """Name and value of everything in a told result, lists of numbers whole."""
    if isinstance(result, dict) and "sha256" not in result:
        for key, held in result.items():
            yield from leaves(held, f"{path}/{key}" if path else str(key))
    else:
        yield path, result


def flat(value):
    """The numbers of a value in a row."""
    if isinstance(value, list):
        return [number for held in value for number in flat(held)]
    return [value]


def compared(got, wanted, rtol):
    """Why two values are not the same, or None; with a tolerance, a tensor told by checksum is compared by its sum."""
    if got == wanted:
        return None
    if isinstance(got, dict) and isinstance(wanted, dict):
        if got["shape"] != wanted["shape"]:
            return f"shape {got['shape']} for {wanted['shape']}"
        if rtol == 0:
            return f"other bits, with the sum {got['sum']!r} for {wanted['sum']!r}"
        got, wanted = [got["sum"]], [wanted["sum"]]
    mine, theirs = flat(got), flat(wanted)
    if len(mine) != len(theirs) or not all(isinstance(held, int | float) for held in mine + theirs):
        return f"{got} for {wanted}"
    scale = max(map(abs, theirs))
    off = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
    if all(held <= rtol * scale for held in off):  # no NaN is
        return None
    worst = next((held for held in off if math.isnan(held)), max(off))
    return f"off by {worst:.2g}, the largest being {scale:.3g}"


def differences(name, got, wanted, tolerance=None):
    """What differs between two results of a program beyond what it says, as lines of text.

    - `tolerance`: None compares bits; a number is a relative tolerance for all but the results named `first...`.
    """
    close, differs = said(name, "CLOSE", {}), said(name, "DIFFERS", {})
    mine, theirs = dict(leaves(got)), dict(leaves(wanted))
    lines = [f"{key}: not in both" for key in mine.keys() ^ theirs.keys()]
    for key in mine.keys() & theirs.keys():
        if any(key.startswith(beginning) for beginning in differs):
            continue
        rtol = next((held for beginning, (held, _) in close.items() if key.startswith(beginning)), 0.0)
        if tolerance is not None and not key.startswith("first"):
            rtol = max(rtol, tolerance)
        why = compared(mine[key], theirs[key], rtol)
        if why is not None:
            lines.append(f"{key}: {why}")
    return sorted(lines)


def main():
    result = run(sys.argv[1])
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(result), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        os._exit(0)  # the process group outlives its end, and its threads may abort the usual one


if __name__ == "__main__":
    main()
