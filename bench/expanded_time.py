"""Conv2d and BatchNorm2d on a repeated frame (stride 0 in time) against the same frame copied T times.

python bench/expanded_time.py [--device cpu] [--rounds 15] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikescope import layer


def seconds(work: Callable[[], None], device: str) -> float:
    """Wall-clock time of one call, with the device's work done."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def step(net: nn.Module, x_seq: Tensor) -> Callable[[], None]:
    """One training step: forward, a loss that weighs every time step, backward."""
    weights = torch.linspace(0.5, 1.5, len(x_seq), device=x_seq.device).view(-1, 1, 1, 1, 1)

    def work() -> None:
        net.zero_grad()
        (net(x_seq) * weights).sum().backward()

    return work


def row(T: int, device: str, rounds: int) -> tuple[float, float]:
    """Median seconds for the repeated and for the copied frame, taken in turns."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(3, 64, 3, padding=1, bias=False, step_mode="m"), layer.BatchNorm2d(64, step_mode="m")
    ).to(device)
    frame = torch.randn(16, 3, 32, 32, device=device)
    repeated = frame.expand(T, *frame.shape)
    rivals = step(net, repeated), step(net, repeated.contiguous())
    for work in rivals:
        work()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for taken, work in zip(times, rivals, strict=True):
            taken.append(seconds(work, device))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"command: python {' '.join(sys.argv)}   torch {torch.__version__}")
    print("Conv2d(3, 64, 3) + BatchNorm2d(64), forward and backward, N=16, 32x32, medians taken in turns")
    print(f"{'T':>3} {'repeated ms':>12} {'copied ms':>10} {'ratio':>6}")
    for T in (4, 8, 16):
        repeated, copied = row(T, options.device, options.rounds)
        print(f"{T:>3} {repeated * 1e3:>12.2f} {copied * 1e3:>10.2f} {copied / repeated:>6.2f}")


if __name__ == "__main__":
    main()
