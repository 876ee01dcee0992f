"""The commands `train` and `evaluate`: a recipe from options, from a file, or from a run folder."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from .counts import threads
from .reference import SCHEDULERS, add_reference_options
from .shared import Pair, refuse, run_written

__all__ = ["add_evaluate", "add_train"]

_TRAIN_EPILOG = """examples:
  spikescope train --model spikescope.train:digits_network --data digits --epochs 5
  spikescope train --model sew_resnet18 --data cifar10dvs --root /data/cifar10dvs -T 8 --amp bf16 -b 16 \\
      --model-arg neuron=ParametricLIFNode --model-arg cnf=ADD --lr 1e-3 --wd 0.01 --epochs 100
  spikescope train --recipe recipe.toml --epochs 20      options given beside a file win over it
  spikescope train --resume runs/train-20260301-101500   goes on bit for bit, also after kill -9
  torchrun --nproc-per-node 4 -m spikescope train ...    one process a GPU; -b counts for each

The run folder holds recipe.toml, a line an epoch in metrics.jsonl, checkpoints, best.safetensors, summary.txt and
pictures. SIGTERM and Ctrl-C end it after the present update, with a checkpoint; a second Ctrl-C at once.

exit status: 0 done, 2 it could not begin or go on, 130 stopped by a signal"""


def add_train(commands: Any, whole: bool) -> None:
    """Add `spikescope train`; its options only if `whole`, since they take PyTorch to be imported."""
    parser = commands.add_parser(
        "train",
        help="train a network of spikes on images or event data, by options or a recipe",
        description="Train a classifier of spikes. Every option may stand in a TOML file under the name of its field.",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_train)
    if whole:
        _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    from ..train import LOGS, options

    groups: dict[str, Any] = {}
    for option in options():
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        group.add_argument(*option.flags, dest=option.name, default=argparse.SUPPRESS, **_form(option))
    add_reference_options(parser, groups["data"])
    folder = groups["run"]
    folder.add_argument(
        "--out", "--output-dir", type=Path, metavar="DIR", help="the run folder, new or empty (runs/train-<time>)"
    )
    folder.add_argument("--recipe", type=Path, metavar="FILE", help="a TOML file with options")
    folder.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    folder.add_argument("--threads", type=threads, metavar="N", help="CPU threads (as PyTorch chooses)")
    folder.add_argument("--quiet", action="store_true", help="print the result alone")
    folder.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="NAME[:PROJECT]",
        help=f"send the numbers of each epoch to {', '.join(LOGS)} as well; may be given several times",
    )
    lists = parser.add_argument_group("lists")
    lists.add_argument("--list-models", action="store_true", help="print the names that --model takes, and end")
    lists.add_argument("--list-data", action="store_true", help="print the names that --data takes, and end")


def add_evaluate(commands: Any) -> None:
    """Add `spikescope evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="test the network of a run folder again",
        description="Test the best network of a run folder on the test part of its data, and show how active it is.",
    )
    parser.set_defaults(run=_evaluate)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run folder of `spikescope train`")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other weights than its best.safetensors")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (auto)")


def _form(option: Any) -> dict[str, Any]:
    """An option as argparse wants it."""
    shown = option.default if option.default not in (None, "", {}) else None
    words = option.help if shown is None or option.kind is bool else f"{option.help} ({shown})"
    words = words.replace("%", "%%")
    if option.kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": words}
    if option.kind is dict:
        return {"action": Pair, "metavar": "NAME=VALUE", "help": words}
    if option.name == "amp":  # --amp alone is bf16, which needs no scaling of the loss
        return {"nargs": "?", "const": "bf16", "choices": option.choices, "help": words}
    if option.name == "lr_scheduler":
        return {"type": lambda text: SCHEDULERS.get(text, text), "choices": option.choices, "help": words}
    metavar = {"choices": option.choices} if option.choices else {"metavar": "N" if option.kind is not str else "TEXT"}
    return {"type": option.kind, "help": words, **metavar}


def _train(arguments: argparse.Namespace) -> int:
    from ..errors import MissingExtraError
    from ..functional import keep_heap
    from ..train import Recipe, joined_ranks, options, read_recipe, resume, train

    if arguments.list_models or arguments.list_data:
        return _list(arguments.list_models)
    given = {option.name: vars(arguments)[option.name] for option in options() if option.name in vars(arguments)}
    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)
    keep_heap()
    try:
        if arguments.resume is not None:
            if given or arguments.recipe or arguments.out:
                raise ValueError(
                    "--resume goes on with the options of its run folder alone; leave the other options out, or begin "
                    "anew with --weights DIR/best.safetensors."
                )
            out = arguments.resume
            outcome = resume(out, quiet=arguments.quiet, logs=arguments.log)
        else:
            source = {} if arguments.recipe is None else read_recipe(arguments.recipe)
            recipe = Recipe.of({**source, **given}, str(arguments.recipe or "The recipe"))
            with joined_ranks(recipe.device) as ranks:
                out = Path(ranks.share(str(arguments.out or Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}")))
                outcome = train(recipe, out, quiet=arguments.quiet, logs=arguments.log)
    except (MissingExtraError, ValueError, TypeError, OSError, FloatingPointError) as error:
        return refuse(error, {option.name: option.flags[-1] for option in options() if option.flags})
    if os.environ.get("RANK", "0") == "0":
        print(f"{outcome.summary}\n\n{run_written(out)}")
    return 130 if outcome.interrupted else 0


def _list(networks: bool) -> int:
    from .. import models
    from ..train import SOURCES

    if networks:
        for name, row in models.VARIANTS.items():
            print(f"{name:<28}{' x '.join(map(str, row.image)):<16}{row.parameters / 1e6:>8.2f} M parameters")
    else:
        for name, source in SOURCES.items():
            print(f"{name:<16}{source.words}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from ..errors import MissingExtraError
    from ..report.summary import activity_table
    from ..train import evaluate_run

    try:
        recipe, epoch = evaluate_run(arguments.folder, device=arguments.device, weights=arguments.weights)
    except (MissingExtraError, ValueError, TypeError, OSError) as error:
        return refuse(error)
    print(f"{recipe.model} on {recipe.data}, T = {recipe.T}")
    print(f"Test accuracy      {100 * epoch.test_accuracy:.2f} %   (loss {epoch.test_loss:.4f})\n")
    print(activity_table(epoch.layers))
    return 0
