"""Laws over the arguments of all models: what no network can be made of, or fits none, is refused in words of ours."""

import importlib
import inspect
import math
from collections.abc import Sequence

import pytest
import torch
from model_cases import FIXED_SIZE, SMALL, size_of
from torch import nn

from spikescope import functional, models
from spikescope.errors import ShapeError
from spikescope.models import sew_resnet
from spikescope.models.table import VARIANTS

WRONG = {
    "int": (0, -1, 1.5, 64.0, "a", None, True),
    "float": ("a", None, -1.0, math.nan, math.inf),
    "Sequence[int]": (3, "abc", None, ()),
}
OFF = {"depths": (-1, 1.5, "a"), "layers": (0, -1, 1.5)}
"""What is none in a sequence; a stage of `depths` may be empty."""

EMPTY_IS_ONE = {("Spikformer", "depths"), ("SpikeDrivenTransformer", "depths")}  # without blocks it is a network
REQUIRED = {"block": sew_resnet.BasicBlock, "layers": (1, 1, 1, 1), "cfg": (8, "M", 512)}


def made(name, **options):
    with torch.device("meta"):
        return models.create(name, **SMALL.get(name, {}) | options)


def class_of(name):
    """The class of the network, which is the function itself or what it returns."""
    build = VARIANTS[name].function(name)
    if inspect.isclass(build):
        return build
    return getattr(importlib.import_module(build.__module__), inspect.signature(build).return_annotation)


CLASSES = {class_of(name): name for name in reversed(VARIANTS)}
"""To each class of networks the name of the first of them."""


def kind_of(parameter):
    """How an argument is annotated, without the None that it may be."""
    return parameter.annotation.removesuffix(" | None")


def wrong(kind, parameter):
    """Values that `parameter` cannot have, by its annotation."""
    annotation = kind_of(parameter)
    values = [] if annotation not in WRONG else [*WRONG[annotation]]
    if annotation.startswith("Sequence[int"):
        given = REQUIRED.get(parameter.name, parameter.default)
        length = len(given) if isinstance(given, Sequence) else 3
        values = [*WRONG["Sequence[int]"], *((off,) * length for off in OFF.get(parameter.name, (0, -1, 1.5, "a")))]
        values = [held for held in values if held is not None or parameter.default is not None]
    if (kind.__name__, parameter.name) in EMPTY_IS_ONE:
        values.remove(0)
    return values


CASES = [
    (kind, parameter.name, value)
    for kind in CLASSES
    for parameter in inspect.signature(kind).parameters.values()
    if kind_of(parameter) in WRONG or kind_of(parameter).startswith("Sequence[int")
    for value in wrong(kind, parameter)
    if not (parameter.name == "cfg" and value == "abc")  # is a sequence of strings, each of which is refused
]


def test_every_class_has_arguments_to_try():
    assert {kind for kind, *_ in CASES} == set(CLASSES)


@pytest.mark.slow(keep=160)
@pytest.mark.parametrize(("kind", "name", "value"), CASES, ids=lambda held: getattr(held, "__name__", repr(held)))
def test_an_argument_that_no_network_can_be_made_of_is_refused_by_its_name(kind, name, value):
    needed = {key: held for key, held in REQUIRED.items() if key in inspect.signature(kind).parameters}
    small = {} if needed else SMALL.get(CLASSES[kind], {})
    with torch.device("meta"), pytest.raises((ValueError, TypeError), match=rf"{name}\b.*but got"):
        kind(**needed | small | {name: value})


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if "embed_dims" in inspect.signature(kind).parameters])
def test_channels_that_leave_a_part_none_are_refused(kind):
    built, words = [], {}
    for width in range(1, 33):
        try:
            with torch.device("meta"):
                built.append(kind(**SMALL[CLASSES[kind]] | {"embed_dims": width}))
        except ValueError as error:
            words[width] = str(error)
    assert all("embed_dims" in held or "num_heads" in held for held in words.values()), words
    assert all(held.numel() for net in built for held in net.parameters())
    assert built
    with torch.device("meta"), pytest.raises(ValueError, match=r"mlp_ratio must leave .* but got 0\.001"):
        kind(**SMALL[CLASSES[kind]] | {"mlp_ratio": 0.001})


@pytest.mark.parametrize("name", sorted(name for name in CLASSES.values() if VARIANTS[name].family not in FIXED_SIZE))
def test_frames_of_another_size_pass_or_are_refused_in_words(name):
    channels, (height, width) = VARIANTS[name].image[0], size_of(VARIANTS[name])
    net = made(name).eval()
    online = VARIANTS[name].family == "spiking_vggws_ottt"
    if not online:
        functional.set_step_mode(net, "m")
    steps = getattr(net, "T", 2)
    for size in ((height + 32, width), (height, width + 33)):
        x = torch.rand(steps, 1, channels, *size, device="meta")
        words, y = "", x
        try:
            y = net(x[0] if online else x)
        except ShapeError as error:
            words = str(error)
        functional.reset_net(net)
        last = [held for held in net.modules() if isinstance(held, nn.Linear)][-1]
        assert y.shape[-1] == last.out_features or ("but got" in words and "input_size" in words)
