"""The command `spikescope`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from .. import __version__
from ..display import amount
from ..files import OutputError, claim_folder
from .conversion import add_convert
from .counts import count, threads
from .kernels import add_kernels
from .profiling import add_bench_model
from .recordings import add_export, add_inspect
from .reports import add_report
from .shared import Strict, refuse, run_written
from .training import add_evaluate, add_train
from .watching import add_watch

__all__ = ["main"]

NEURONS = ("LIFNode", "IFNode", "ParametricLIFNode", "KLIFNode", "CUBALIFNode")

UNREAD = 141
"""The exit status where nobody reads any more what is printed, as `head` once it has enough; shells have the same."""

_BESIDE = """A script written for SpikingJelly runs on spikescope as it is:
  python -m spikescope.compat script.py [argument ...]"""

_EPILOG = """exit status:
  0  done
  1  the accuracy asked for was missed
  2  the work could not begin or its results could not be written
  130  interrupted; the run folder holds the finished epochs"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (those of the process by default) and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(argv).parse_args(argv)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
        return UNREAD
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except OutputError as error:
        return refuse(error)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spikescope",
        description="Train spiking neural networks and see inside them while they run.",
        epilog=_BESIDE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spikescope {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Strict)
    add_inspect(commands)
    add_export(commands)
    add_report(commands)
    add_watch(commands)
    demo = commands.add_parser(
        "demo",
        help="train a spiking network on scanned digits and draw what goes on inside",
        description="Train a convolutional spiking network on the 1,797 scanned digits of scikit-learn; write metrics, "
        "a checkpoint, a summary and pictures into a run folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.set_defaults(run=_demo)
    demo.add_argument("--out", type=Path, metavar="DIR", help="the run folder, new or empty (runs/demo-<time>)")
    demo.add_argument("--epochs", type=count, default=20, metavar="N", help="passes over the training data (20)")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="initial weights and order of the samples (0)")
    demo.add_argument("--steps", type=count, default=4, metavar="T", help="time steps that each image is shown for (4)")
    demo.add_argument("--neuron", choices=NEURONS, default=NEURONS[0], help=f"the spiking neuron ({NEURONS[0]})")
    demo.add_argument(
        "--accuracy",
        type=_percent,
        default=98.5,
        metavar="PERCENT",
        help="the test accuracy to reach, else exit status 1; 0 asks for none (98.5)",
    )
    demo.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train (auto)")
    demo.add_argument(
        "--threads",
        type=threads,
        default=1,
        metavar="N",
        help="CPU threads (1; two are faster on an idle machine, and far slower on a busy one)",
    )
    demo.add_argument("--quiet", action="store_true", help="print the result alone")
    add_train(commands, whole="train" in argv)
    add_evaluate(commands)
    add_convert(commands)
    add_kernels(commands, argv)
    add_bench_model(commands)
    return parser


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"a number from 0 to 100 is wanted, but got {text!r}")
    return number


def _demo(arguments: argparse.Namespace) -> int:
    out = claim_folder(arguments.out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}")
    import torch  # only now: what is wrong with the arguments is said at once

    from ..errors import MissingExtraError
    from ..train import RunFolder, Settings, check_extras, choose_device, run_demo

    try:
        check_extras()
        device = choose_device(arguments.device)
    except (MissingExtraError, ValueError) as error:
        return refuse(error)
    torch.set_num_threads(arguments.threads)
    with RunFolder(out) as folder:
        outcome = run_demo(
            folder,
            Settings(epochs=arguments.epochs, steps=arguments.steps, seed=arguments.seed),
            neuron=arguments.neuron,
            device=device,
            quiet=arguments.quiet,
            target=arguments.accuracy,
        )
    print(f"{outcome.summary}\n\n{run_written(out)}")
    if outcome.interrupted:
        print(f"Interrupted: {out} holds {amount(len(outcome.history), 'finished epoch')}.", file=sys.stderr)
        return 130
    if outcome.accuracy < arguments.accuracy:
        print(f"The accuracy of {arguments.accuracy:g} % was missed: {outcome.accuracy:.2f} %.", file=sys.stderr)
        return 1
    return 0
