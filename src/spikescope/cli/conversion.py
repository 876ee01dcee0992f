"""The command `convert`: a trained network of ReLUs becomes one of spikes, in a folder."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from .counts import count, threads
from .shared import Pair, plain, refuse

__all__ = ["add_convert"]

_EPILOG = """examples:
  spikescope train --model CIFAR10Net --model-arg neuron=ReLU -T 1 --data cifar10 --root /data --out runs/ann
  spikescope convert runs/ann -T 64 --out runs/snn       the best weights of a run, on the data of the run
  spikescope convert --model my_nets:make --weights net.pth --data cifar10 --root /data --mode 99.99%%
  spikescope convert --model torchvision.models:resnet18 --model-arg weights=IMAGENET1K_V1 \\
      --data imagenet --root /data/imagenet --tested 2000

The twin without spikes of a model of the table is made with --model-arg neuron=ReLU; networks with attention have none
that can be converted. Printed and written are the accuracy after 1, 2, 4, ... steps beside that of before, the spikes
of a sample, and of each layer its scale, activations, rates, error and clipped share: what is wrong, and where.

The folder holds snn.safetensors, config.json, results.json, summary.txt and two pictures. In Python:
  snn = spikescope.train.load_converted(Path("runs/snn"))

exit status: 0 done, 1 more accuracy was lost than --max-drop, 2 it could not be done"""


def add_convert(commands: Any) -> None:
    """Add `spikescope convert`."""
    parser = commands.add_parser(
        "convert",
        help="make a network of spikes of a trained network of ReLUs, and compare the two layer by layer",
        description="Convert a trained network of ReLUs to spikes, without training: each activation becomes a rate.",
        epilog=_EPILOG.replace("%%", "%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_convert)
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="RUN", help="a run folder of `spikescope train`; or give the next five"
    )
    network = parser.add_argument_group("network and data, of no run folder")
    network.add_argument(
        "--model", metavar="TEXT", help="a name of `spikescope train --list-models`, or module:function"
    )
    network.add_argument("--model-arg", dest="model_args", action=Pair, metavar="NAME=VALUE", help="of its function")
    network.add_argument("--data", metavar="TEXT", help="a name of `spikescope train --list-data`, or module:function")
    network.add_argument("--root", "--data-path", metavar="TEXT", help="the folder or the file of the data")
    network.add_argument("--data-arg", dest="data_args", action=Pair, metavar="NAME=VALUE", help="of the data")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights; of a run its best.safetensors")
    way = parser.add_argument_group("conversion")
    way.add_argument(
        "--mode",
        type=plain,
        default="99.9%",
        metavar="MODE",
        help="the largest activation of a layer: Max, a percentile such as 99.9%%, or a share such as 0.7 (99.9%%)",
    )
    way.add_argument(
        "--momentum", type=float, metavar="M", help="a running mean over batches instead of the largest of all"
    )
    way.add_argument("--samples", type=count, default=1024, metavar="N", help="to measure activations on (1024)")
    way.add_argument("--no-fuse", dest="fuse", action="store_false", help="leave batch normalisation where it is")
    test = parser.add_argument_group("test")
    test.add_argument("-T", dest="T", type=count, default=64, metavar="N", help="steps that an image is held for (64)")
    test.add_argument("--tested", type=count, default=0, metavar="N", help="samples to test on (all)")
    test.add_argument("-b", "--batch-size", type=count, default=64, metavar="N", help="samples at a time (64)")
    test.add_argument("--max-drop", type=float, metavar="POINTS", help="points of accuracy that may be lost (any)")
    run = parser.add_argument_group("run")
    run.add_argument("--out", "--output-dir", type=Path, metavar="DIR", help="the new folder (runs/convert-<time>)")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="which samples are measured on (0)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (auto)")
    run.add_argument("--threads", type=threads, metavar="N", help="CPU threads (as PyTorch chooses)")


def _convert(arguments: argparse.Namespace) -> int:
    from ..errors import MissingExtraError
    from ..train import Conversion, Recipe, convert, options_of_run

    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)
    out = arguments.out or Path("runs") / f"convert-{datetime.now():%Y%m%d-%H%M%S}"
    names = ("model", "model_args", "data", "root", "data_args")
    given = {name: vars(arguments)[name] for name in names if vars(arguments)[name]}
    how = {name: vars(arguments)[name] for name in Conversion.__dataclass_fields__}
    try:
        weights = arguments.weights
        if arguments.folder is not None:
            source = arguments.folder / "recipe.toml"
            given = {**options_of_run(arguments.folder), **given}
            weights = weights or arguments.folder / "best.safetensors"
            recipe = Recipe.of(given, str(source))
        elif not arguments.model:
            raise ValueError("convert needs the folder of a run, or --model, --data and --weights.")
        else:
            recipe = Recipe.of({**given, "seed": arguments.seed, "T": 1}, "spikescope convert")
        made = convert(recipe, weights, out, Conversion(**how))
    except (MissingExtraError, ValueError, TypeError, FileNotFoundError) as error:
        return refuse(error, {"model": "--model", "data": "--data"})
    print(f"{made.summary}\n\nFolder             {out}")
    if arguments.max_drop is not None and made.lost > arguments.max_drop:
        print(
            f"spikescope: {made.lost:.2f} points of accuracy are lost, and {arguments.max_drop:g} may be. The table "
            "says in which layer; more steps (-T), another --mode or more --samples help most often.",
            file=sys.stderr,
        )
        return 1
    return 0
