"""Every option of the reference's `train_classify` is taken under its name, or refused with what there is instead."""

from __future__ import annotations

import sys
import types

import pytest

from spikescope.cli.main import main
from spikescope.train import load_data, sources

TAKEN = {
    "--data-path": "x", "--model": "sew_resnet18", "--device": "cpu", "-b": "3", "--batch-size": "3", "--epochs": "2",
    "-j": "1", "--workers": "1", "--opt": "sgd", "--lr": "0.1", "--momentum": "0.8", "--wd": "0.1",
    "--weight-decay": "0.1", "--norm-weight-decay": "0.2", "--label-smoothing": "0.1", "--mixup-alpha": "0.2",
    "--cutmix-alpha": "1.0", "--lr-scheduler": "cosa", "--lr-warmup-epochs": "5", "--lr-warmup-method": "linear",
    "--lr-warmup-decay": "0.01", "--lr-step-size": "30", "--lr-gamma": "0.1", "--output-dir": "x", "--resume": "x",
    "--sync-bn": None, "--model-ema": None, "--model-ema-steps": "32", "--model-ema-decay": "0.9",
    "--clip-grad-norm": "1.0", "--weights": "x", "--seed": "2020", "--auto-augment": "ta_wide", "--random-erase": "0.1",
    "--interpolation": "bilinear", "--val-resize-size": "232", "--val-crop-size": "224", "--train-crop-size": "176",
}  # fmt: skip
REFUSED = {
    "--start-epoch": "0", "--cache-dataset": None, "--test-only": None, "--pretrained": None, "--world-size": "1",
    "--dist-url": "env://", "--ra-sampler": None, "--ra-reps": "4", "--prototype": None, "--print-logdir": None,
    "--clean": None, "--disable-pinmemory": None, "--disable-amp": None, "--local_rank": "0", "--disable-uda": None,
    "--persistent-workers": None, "--prefetch-factor": "2", "--execution-mode": "eager", "--compile-backend": "eager",
    "--compile-mode": "default", "--compile-eval": None, "--cuda-graph-warmup-steps": "3",
}  # fmt: skip


def given(name, value):
    return [name] if value is None else [name, value]


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The recipes that arrive where a training would begin."""
    from spikescope import train

    recipes = []

    def begin(recipe, out, quiet=False, **more):
        recipes.append(recipe)
        return train.Outcome((), "", False)

    monkeypatch.setattr(train, "train", begin)
    monkeypatch.setattr(train, "resume", lambda out, quiet=False, **more: begin(None, out))
    return recipes


@pytest.mark.parametrize("name", TAKEN)
def test_an_option_is_taken(name, trained):
    rest = [] if name == "--resume" else ["--data", "imagenet"] + ([] if name == "--model" else ["--model", "m:f"])
    assert main(["train", *rest, *given(name, TAKEN[name])]) == 0
    assert len(trained) == 1


def test_what_is_of_the_data_goes_there(trained):
    options = [
        "--auto-augment",
        "ra",
        "--data-arg",
        "val_crop_size=64",
        "--random-erase",
        "0.25",
        "--lr-scheduler",
        "steplr",
    ]
    assert main(["train", "--model", "m:f", "--data", "imagenet", *options]) == 0
    assert trained[0].data_args == {"auto_augment": "ra", "val_crop_size": 64, "random_erase": 0.25}
    assert trained[0].lr_scheduler == "step"


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_is_refused_in_words(name, trained, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model", "m:f", "--data", "imagenet", *given(name, REFUSED[name])])
    assert ended.value.code == 2
    assert f"there is no {name} here: " in capsys.readouterr().err
    assert not trained


class Made:
    """A transform or a data set of torchvision that keeps what it was made from."""

    def __init__(self, *args, **options):
        self.args, self.options = args, options
        self.classes = ["cat", "dog"]

    def __len__(self):
        return 2


@pytest.fixture
def torchvision(monkeypatch):
    """Its names as far as folders of images need them."""
    import enum

    names = "ToTensor Normalize RandomResizedCrop RandomHorizontalFlip RandomErasing Resize CenterCrop RandAugment"
    kinds = {name: type(name, (Made,), {}) for name in [*names.split(), "TrivialAugmentWide", "AugMix", "AutoAugment"]}
    change = types.SimpleNamespace(
        **kinds,
        Compose=lambda parts: [type(part).__name__ for part in parts],
        InterpolationMode=enum.Enum("InterpolationMode", {"BILINEAR": "bilinear", "NEAREST": "nearest"}),
        AutoAugmentPolicy=enum.Enum("AutoAugmentPolicy", {"IMAGENET": "imagenet"}),
    )
    held = types.ModuleType("torchvision")
    held.datasets, held.transforms = types.SimpleNamespace(ImageFolder=Made), change
    monkeypatch.setitem(sys.modules, "torchvision", held)
    return held


def test_folders_of_images(torchvision, tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    split = load_data("imagenet", str(tmp_path), 4, {"auto_augment": "ta_wide", "random_erase": 0.1})
    assert (split.classes, split.sequences) == (2, False)
    moved, plain = ["RandomResizedCrop", "RandomHorizontalFlip"], ["ToTensor", "Normalize"]
    assert split.train.args == (str(tmp_path / "train"), [*moved, "TrivialAugmentWide", *plain, "RandomErasing"])
    assert split.test.args == (str(tmp_path / "val"), ["Resize", "CenterCrop", "ToTensor", "Normalize"])
    assert load_data("imagenet", str(tmp_path), 4, {}).train.args[1] == [*moved, *plain]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auto_augment": "much"}, "auto_augment must be one of 'ra', 'ta_wide', 'augmix', 'imagenet'"),
        ({"interpolation": "box"}, "interpolation must be one of"),
        ({}, "has no folder 'train'"),
    ],
)
def test_what_does_not_fit_folders_of_images_is_told(torchvision, tmp_path, options, words):
    if options:
        for part in ("train", "val"):
            (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match=words):
        load_data("imagenet", str(tmp_path), 4, options)


def test_classes_of_one_part_alone_are_told(torchvision, tmp_path, monkeypatch):
    def folder(root, transform):
        made = Made()
        made.classes = ["cat"] if root.endswith("val") else ["cat", "dog"]
        return made

    monkeypatch.setattr(torchvision.datasets, "ImageFolder", folder)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match="other classes; dog is in one of them alone"):
        load_data("imagenet", str(tmp_path), 4, {})


def test_the_list_of_data_has_folders_of_images():
    assert "train/CLASS" in sources.SOURCES["imagenet"].words
