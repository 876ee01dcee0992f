"""Random networks, plainly in eager mode and in other ways: outputs, gradients, states, buffers and records agree.

    python tests/sweeps/fuzz_networks.py [N] [--seed S] [--way WAY ...] [--seconds S] [--show]

Every difference is one line, which ends with the command that repeats it. What is refused in words is counted.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from network_runs import Results, plainly
from network_ways import WAYS
from random_networks import Case, draw
from torch import Tensor, nn
from torch._inductor import config as inductor

from spikescope.errors import RecomputeError, StateError


def differ(got: Results, want: Results) -> list[str]:
    """What differs, in words."""
    found = [f"{name}: only {'the first' if name in got else 'the second'}" for name in got.keys() ^ want.keys()]
    gradients = [held for name, held in want.items() if "gradient" in name and isinstance(held, Tensor)]
    largest = max(
        (held.double().nan_to_num(0, 0, 0).abs().max().item() for held in gradients if held.numel()), default=0.0
    )
    unequal = {}
    for name in want.keys() & got.keys():
        of = {"none_is_zero": True, "scale": largest} if "gradient" in name else {}
        unequal[name] = unlike(got[name], want[name], **of)
    return sorted(found + [f"{name}: {why}" for name, why in unequal.items() if why])


def unlike(got: Any, want: Any, none_is_zero: bool = False, scale: float = 0.0) -> str | None:
    """How two values differ, if they do; one without a gradient may have one of zeros.

    `scale` is the size of what may have cancelled, as the gradient of a bias before a normalisation does.
    """
    if not isinstance(got, Tensor) or not isinstance(want, Tensor):
        if isinstance(got, Tensor) or isinstance(want, Tensor):
            held, other = (got, want) if isinstance(got, Tensor) else (want, got)
            alike = none_is_zero and other is None and not held.any()
            return None if alike else f"{type(got).__name__} for {type(want).__name__}"
        alike = got == want
        if isinstance(got, float) and isinstance(want, float):
            alike = abs(got - want) <= 1e-4 * max(1.0, abs(want)) or (got != got and want != want)
        return None if alike else f"{got} for {want}"
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)} for {want.dtype}{list(want.shape)}"
    if not want.numel():
        return None
    bound = 1e-8 if want.dtype is torch.float64 else 2e-4
    a, b = got.detach().double(), want.detach().double()
    size = max(1e-2, 5e-3 * scale, b.nan_to_num(0, 0, 0).abs().max().item())
    if not torch.equal(a.isnan(), b.isnan()):
        return f"NaN in {int(a.isnan().sum())} places for {int(b.isnan().sum())}"
    if torch.allclose(a, b, rtol=bound, atol=bound * size, equal_nan=True):
        return None
    off = (a - b).nan_to_num(0, 0, 0).abs()
    return f"off by {off.max():.3g} of {size:.3g} in {int((off > bound * size).sum())} of {off.numel()}"


def smaller(case: Case) -> Iterator[Case]:
    """The case without one of its calls, or without one module of a row of them."""
    if len(case.calls) > 1:
        yield case._replace(calls=case.calls[:-1])
        yield case._replace(calls=[case.calls[1]._replace(between=""), *case.calls[2:]])
    for path, row in case.net.named_modules():
        if isinstance(row, nn.Sequential):
            for number in range(len(row)):
                net = copy.deepcopy(case.net)
                del net.get_submodule(path)[number]  # type: ignore[operator]
                yield case._replace(net=net)


def reduced(case: Case, seed: int, name: str) -> Case:
    """The smallest case found of which the same is said."""
    kind = lambda case: [said.split(":")[0] for said in tried(case, seed, name)]  # noqa: E731
    what = kind(case)
    while True:
        for less in smaller(case):
            if kind(less)[: 1 + (what[0] == "fails")] == what[: 1 + (what[0] == "fails")]:
                case = less
                break
        else:
            return case


def tried(case: Case, seed: int, name: str) -> tuple[str, str]:
    """'same', 'not for it', 'refused', 'refused plainly', 'differs' or 'fails', and what there is to say."""
    try:
        plainly(case)
    except (ValueError, StateError) as error:  # a norm of one value, a neuron of T steps that has done them
        return "refused plainly", str(error)[:150]
    except Exception as error:
        return "fails", f"plainly: {told(error)}"
    try:
        got, want = WAYS[name](case, random.Random(seed))
    except RecomputeError:
        return "refused", ""
    except Exception as error:
        return "fails", told(error)
    if not want and not got:
        return "not for it", ""
    found = differ(got, want)
    return ("differs", "; ".join(found[:2]) + f" ({len(found)} in all)") if found else ("same", "")


def told(error: Exception) -> str:
    """An error on one line, and where it was raised; whole on the error stream where TRACE is set."""
    if os.environ.get("TRACE"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    where = " ".join(f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:260]} @ {where}"


def sweep(seeds: Iterable[int], ways: Sequence[str], seconds: float = math.inf) -> tuple[Counter[str], list[str]]:
    """Run the network of each seed in each way; how many became what, and a line for each difference."""
    began, counts, bad = time.monotonic(), Counter[str](), []
    for seed in seeds:
        if time.monotonic() - began > seconds:
            break
        case = draw(seed)
        for name in ways:
            what, said = tried(case, seed, name)
            counts[what if what == "refused plainly" else f"{name} {what}"] += 1
            if what in ("differs", "fails"):
                again = f"python tests/sweeps/fuzz_networks.py 1 --seed {seed} --way {name}"
                bad.append(f"{what} {said} # {again}")
                print(bad[-1], flush=True)
            if what == "refused plainly":
                break
    return counts, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=500, metavar="N", help="how many networks")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--way", nargs="+", choices=WAYS, default=[name for name in WAYS if name != "inductor"])
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--show", action="store_true", help="print the networks, without what makes no difference")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    inductor.fallback_random = True  # the numbers that PyTorch draws
    began, seeds = time.monotonic(), range(given.seed, given.seed + given.n)
    if given.show:
        for seed in seeds:
            case = reduced(draw(seed), seed, given.way[0])
            print(case.net, [(call.between, list(call.x.shape), call.x.dtype) for call in case.calls])
    counts, bad = sweep(seeds, given.way, given.seconds)
    shown = "; ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    print(f"{shown}; {len(bad)} bad; {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
