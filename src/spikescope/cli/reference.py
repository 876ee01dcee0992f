"""Options of the reference's `train_classify` that have another form here, or no sense: taken, or refused in words."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["SCHEDULERS", "add_reference_options"]

SCHEDULERS = {"cosa": "cosine", "steplr": "step", "exponentiallr": "exp"}
"""Its names of learning rate schedules."""

_OF_DATA: dict[str, tuple[type, str]] = {
    "auto-augment": (str, "a policy of torchvision: ta_wide, ra, augmix, or one of AutoAugment"),
    "random-erase": (float, "the probability that a rectangle is erased"),
    "train-crop-size": (int, "the side of the random crop"),
    "val-resize-size": (int, "the shorter side before the central crop"),
    "val-crop-size": (int, "the side of the central crop"),
    "interpolation": (str, "bilinear, nearest or bicubic"),
}
"""What is an argument of the data here, `--data-arg NAME=VALUE`: the type of each, and what it is."""

_INSTEAD = {
    "start-epoch": "--resume DIR goes on where the run has stopped",
    "world-size": "torchrun says how many processes there are: torchrun --nproc-per-node 4 -m spikescope train ...",
    "dist-url": "torchrun says where the processes meet: torchrun --rdzv-endpoint HOST:PORT -m spikescope train ...",
    "local_rank": "torchrun hands it over in the environment",
    "local-rank": "torchrun hands it over in the environment",
    "cache-dataset": "frames of events are kept on disk by their data sets, and images are read as they are",
    "test-only": "spikescope evaluate DIR tests the network of a run again",
    "pretrained": "--weights FILE begins from weights; nothing is downloaded",
    "prototype": "there are no models of another kind; --list-models has the names",
    "ra-sampler": "write a data set that repeats its samples: --data module:function",
    "ra-reps": "write a data set that repeats its samples: --data module:function",
    "print-logdir": "the run folder is where --out says",
    "clean": "the run folder is where --out says, and is never deleted",
    "disable-amp": "precision is full unless --amp says otherwise",
    "disable-pinmemory": "memory is pinned where there is a GPU",
    "persistent-workers": "workers live for an epoch",
    "prefetch-factor": "each worker is two batches ahead, as PyTorch has it",
    "disable-uda": "PyTorch is free to choose; set torch.use_deterministic_algorithms(True) in a function of --model",
    "execution-mode": "--compile runs the network through torch.compile",
    "compile-backend": "--compile takes the backend of torch.compile",
    "compile-mode": "--compile takes the mode of torch.compile",
    "compile-eval": "--compile compiles what is trained; tests run the plain network",
    "cuda-graph-warmup-steps": "--compile runs the network through torch.compile",
}
"""What there is instead of an option that is refused."""


def add_reference_options(parser: argparse.ArgumentParser, data: Any) -> None:
    """Add them: those of the data under the heading `data`, the others without a line of help."""
    for name, (kind, words) in _OF_DATA.items():
        data.add_argument(
            f"--{name}",
            dest="data_args",
            type=kind,
            action=_OfData,
            default=argparse.SUPPRESS,
            metavar="V",
            help=f"of images: {words}",
        )
    for name, words in _INSTEAD.items():
        parser.add_argument(
            f"--{name}", action=_Refused, const=words, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )


class _OfData(argparse.Action):
    """An argument of the data under a name of its own."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name = str(option_string).removeprefix("--").replace("-", "_")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), name: values})


class _Refused(argparse.Action):
    """An option that is not here; its constant says what is instead."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        parser.error(f"there is no {option_string} here: {self.const}")
