"""A recipe: every option of a training once, with its default, its names on the command line, and its line of help."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self, get_type_hints

from ..errors import UnknownNameError, check_choice, did_you_mean
from ..files import open_regular

__all__ = ["Option", "Recipe", "options", "options_of_run", "read_recipe", "recipe_of_run"]


class Option(NamedTuple):
    """A field of a recipe as the command line shows it.

    - `name`: of the field. `flags`: on the command line. `group`: the heading it stands under.
    - `kind`: the type of its value; `table` for one of names and values. `optional`: whether it may be None.
    """

    name: str
    flags: tuple[str, ...]
    group: str
    help: str
    kind: type
    optional: bool
    default: Any
    choices: tuple[str, ...]


def _shown(
    group: str,
    words: str,
    *flags: str,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> dict[str, Any]:
    return {"group": group, "help": words, "flags": flags, "choices": choices, "least": least, "most": most}


def _option(default: Any, *shown: str, **limits: Any) -> Any:
    return field(default=default, metadata=_shown(*shown, **limits))


_NETWORK, _DATA, _UPDATES = "network", "data", "updates"
_RATE, _RUN = "learning rate", "run"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train a classifier of spikes, whole: with the data and the version of the library it fixes the result.

    The options are listed by `spikescope train --help`. `model` and `data` name what `train` makes; a `Trainer`
    is handed both, and needs no names. ValueError or TypeError names the field that does not fit.

    >>> recipe = Recipe(model="spiking_vgg11_bn", data="digits", epochs=3)
    >>> recipe.epochs, recipe.opt
    (3, 'adamw')
    >>> Recipe(model="spiking_vgg11_bn", data="digits", epochs=0)
    Traceback (most recent call last):
    ValueError: epochs must be at least 1, but got 0.
    """

    model: str = _option(
        "", _NETWORK, "a name of spikescope.models.list_models(), or module:function of your own", "--model"
    )
    model_args: dict[str, Any] = field(
        default_factory=dict,
        metadata=_shown(_NETWORK, "an argument of its function, such as tau=2.0; may be given often", "--model-arg"),
    )
    weights: str | None = _option(None, _NETWORK, "a file of weights to begin from", "--weights")
    T: int = _option(4, _NETWORK, "time steps: of an image shown again and again, or frames of events", "-T", least=1)
    step_mode: str = _option("m", _NETWORK, "sequences at once, or step by step", "--step-mode", choices=("m", "s"))

    data: str = _option("", _DATA, "a name of `spikescope train --list-data`, or module:function of your own", "--data")
    root: str | None = _option(None, _DATA, "the folder or the file of the data", "--root", "--data-path")
    data_args: dict[str, Any] = field(
        default_factory=dict,
        metadata=_shown(_DATA, "an argument of the data, such as split_by=time; may be given often", "--data-arg"),
    )
    batch_size: int = _option(32, _DATA, "samples of a step in each process", "-b", "--batch-size", least=1)
    workers: int = _option(0, _DATA, "processes that load samples", "-j", "--workers", least=0, most=512)

    epochs: int = _option(90, _UPDATES, "passes over the training part", "--epochs", least=1)
    opt: str = _option(
        "adamw", _UPDATES, "the optimizer", "--opt", choices=("sgd", "sgd_nesterov", "rmsprop", "adam", "adamw")
    )
    momentum: float = _option(0.9, _UPDATES, "of sgd and rmsprop", "--momentum", least=0, most=1)
    weight_decay: float = _option(0.0, _UPDATES, "of all parameters", "--wd", "--weight-decay", least=0)
    norm_weight_decay: float | None = _option(
        None, _UPDATES, "of the parameters of norms; the same by default", "--norm-weight-decay", least=0
    )
    loss: str = _option(
        "ce",
        _UPDATES,
        "cross entropy of the mean over time, mean squared error of it, or TET: cross entropy at every step",
        "--loss",
        choices=("ce", "mse", "tet"),
    )
    label_smoothing: float = _option(
        0.0, _UPDATES, "the share of the target spread over all classes", "--label-smoothing", least=0
    )
    mixup_alpha: float = _option(0.0, _UPDATES, "mixup with Beta(A, A); 0 for none", "--mixup-alpha", least=0)
    cutmix_alpha: float = _option(0.0, _UPDATES, "cutmix with Beta(A, A); 0 for none", "--cutmix-alpha", least=0)
    accumulate: int = _option(1, _UPDATES, "batches whose gradients make one update", "--accumulate", least=1)
    clip_grad_norm: float | None = _option(
        None, _UPDATES, "the largest norm of all gradients", "--clip-grad-norm", least=0
    )
    amp: str = _option("off", _UPDATES, "mixed precision", "--amp", choices=("off", "bf16", "fp16"))
    model_ema: bool = _option(False, _UPDATES, "test a running average of the weights, and keep it", "--model-ema")
    model_ema_steps: int = _option(32, _UPDATES, "updates between its steps", "--model-ema-steps", least=1)
    model_ema_decay: float = _option(
        0.9998, _UPDATES, "its decay a step, less in the first ones", "--model-ema-decay", least=0
    )

    lr: float = _option(1e-3, _RATE, "the learning rate at its highest, for all processes together", "--lr", least=0)
    lr_scheduler: str = _option(
        "cosine", _RATE, "its course after the warm-up", "--lr-scheduler", choices=("cosine", "step", "exp", "constant")
    )
    lr_warmup_epochs: int = _option(0, _RATE, "epochs until it is reached", "--lr-warmup-epochs", least=0)
    lr_warmup_method: str = _option(
        "linear", _RATE, "growing, or low and then high", "--lr-warmup-method", choices=("linear", "constant")
    )
    lr_warmup_decay: float = _option(
        0.01, _RATE, "the share of it that the warm-up begins with", "--lr-warmup-decay", least=0
    )
    lr_step_size: int = _option(30, _RATE, "of step: epochs between its falls", "--lr-step-size", least=1)
    lr_gamma: float = _option(0.1, _RATE, "of step and exp: the factor of a fall", "--lr-gamma", least=0)
    lr_min: float = _option(0.0, _RATE, "of cosine: where it ends", "--lr-min", least=0)

    device: str = _option("auto", _RUN, "auto, cpu, cuda or cuda:1", "--device")
    seed: int = _option(0, _RUN, "of weights, order, augmentation and noise", "--seed", least=0)
    sync_bn: bool = _option(False, _RUN, "norms over the batches of all processes", "--sync-bn")
    lean: bool = _option(False, _RUN, "keep spikes as bits for the backward pass: less memory, the same bits", "--lean")
    compile: bool = _option(False, _RUN, "run the network through torch.compile", "--compile")
    save_every: int = _option(0, _RUN, "updates between checkpoints; 0 for one an epoch", "--save-every", least=0)
    keep: int = _option(2, _RUN, "checkpoints that are kept", "--keep", least=1)
    flight: bool = _option(
        False, _RUN, "keep the last steps, and write them to the run folder when something goes wrong", "--flight"
    )
    live: bool = _option(False, _RUN, "show the network in a browser while it is trained", "--live")
    patience: int = _option(
        0, _RUN, "end after so many epochs without a better test accuracy; 0 for never", "--patience", least=0
    )

    def __post_init__(self) -> None:
        for option in options(type(self)):
            _check(option, getattr(self, option.name), _field(type(self), option.name).metadata)
        for name, held in (("label_smoothing", self.label_smoothing), ("model_ema_decay", self.model_ema_decay)):
            if held >= 1:
                raise ValueError(f"{name} must be below 1, but got {held}.")
        if self.loss == "tet" and self.step_mode == "s":
            raise ValueError("loss='tet' looks at the scores of every step; take step_mode='m'.")

    def check_named(self, *names: str) -> None:
        """Refuse a recipe without a name of what is to be made by it; a `Trainer` is handed network and data.

        >>> Recipe(data="digits").check_named("model", "data")
        Traceback (most recent call last):
        ValueError: A recipe needs model='...' here: a name of spikescope.models.list_models(), ...
        """
        for name in names:
            if not getattr(self, name):
                raise ValueError(f"A recipe needs {name}='...' here: {_field(type(self), name).metadata['help']}.")

    def as_dict(self) -> dict[str, Any]:
        """Its fields as JSON and TOML have them."""
        return asdict(self)

    def toml(self) -> str:
        """Its fields as TOML, which `read_recipe` reads again; what is None is left out.

        >>> Recipe(model="sew_resnet18", data="digits", model_args={"cnf": "IAND"}).toml().splitlines()[:2]
        ['model = "sew_resnet18"', 'model_args = {"cnf" = "IAND"}']
        """
        rows = ((name, held) for name, held in self.as_dict().items() if held is not None)
        return "".join(f"{name} = {_toml(held)}\n" for name, held in rows)

    @classmethod
    def of(cls, given: Mapping[str, Any], source: str = "The recipe") -> Self:
        """The recipe with the fields `given`; what is no field is told."""
        known = {held.name for held in fields(cls)}
        for name in given:
            if name not in known:
                raise UnknownNameError(f"{source} has no option {name!r}.{did_you_mean(str(name), known)}")
        return cls(**given)


def options(recipe: type[Recipe] = Recipe) -> Iterator[Option]:
    """The options of a recipe, in their order.

    >>> next(options()).flags
    ('--model',)
    """
    hints = get_type_hints(recipe)
    for held in fields(recipe):
        hint = hints[held.name]
        parts = [part for part in getattr(hint, "__args__", ()) if part is not type(None)]
        optional = type(None) in getattr(hint, "__args__", ())
        kind = dict if getattr(hint, "__origin__", None) is dict else parts[0] if optional else hint
        default = held.default if held.default is not MISSING else {}
        meta = held.metadata
        yield Option(held.name, meta["flags"], meta["group"], meta["help"], kind, optional, default, meta["choices"])


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options in a TOML file; a ValueError names the file that is none.

    TOML has no None: the table `{none = true}` stands for it.
    """
    with open_regular(path) as file:
        content = file.read()
    try:
        return {name: _from_toml(held) for name, held in tomllib.loads(content.decode()).items()}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}.") from error


def recipe_of_run(folder: Path) -> Recipe:
    """The recipe that a run folder was made by; FileNotFoundError if it is none."""
    return Recipe.of(options_of_run(folder), str(folder / "recipe.toml"))


def options_of_run(folder: Path) -> dict[str, Any]:
    """The options in the recipe of a run folder."""
    file = folder / "recipe.toml"
    if not file.is_file():
        there = "it holds no recipe.toml" if folder.is_dir() else "there is no such folder"
        raise FileNotFoundError(f"{folder} is not the folder of a run of `spikescope train`: {there}.")
    return read_recipe(file)


def _field(recipe: type[Recipe], name: str) -> Field[Any]:
    return next(held for held in fields(recipe) if held.name == name)


def _check(option: Option, value: Any, limits: Mapping[str, Any]) -> None:
    """Refuse a value of another type, out of its limits, or that is no choice."""
    if value is None and option.optional:
        return
    wanted = (int, float) if option.kind is float else (option.kind,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and option.kind is not bool):
        words = {str: "text", dict: "a table of names and values", bool: "true or false", int: "a whole number"}
        raise TypeError(f"{option.name} must be {words.get(option.kind, 'a number')}, but got {value!r}.")
    _check_written(option.name, value)
    if option.choices:
        check_choice("Recipe", option.name, value, option.choices)
    number: Any = value
    least, most = limits["least"], limits["most"]
    if least is not None and not number >= least:
        raise ValueError(f"{option.name} must be at least {least:g}, but got {value!r}.")
    if most is not None and not number <= most:
        raise ValueError(f"{option.name} must be at most {most:g}, but got {value!r}.")


def _is_none(value: Any) -> bool:
    """Whether a value of TOML stands for None."""
    return isinstance(value, Mapping) and len(value) == 1 and value.get("none") is True


def _check_written(name: str, value: Any) -> None:
    """Refuse what would be read again as something else."""
    if isinstance(value, Mapping):
        if _is_none(value) or not all(isinstance(key, str) for key in value):
            raise ValueError(
                f"{name} must have texts as names, and nothing that is {{'none': True}}, but got {value!r}."
            )
        for key, held in value.items():
            _check_written(f"{name}.{key}", key)
            _check_written(f"{name}.{key}", held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            _check_written(name, held)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} must be a text that can be written as UTF-8, but got {value!r}.") from error


def _from_toml(value: Any) -> Any:
    """A value of TOML as it was written."""
    if _is_none(value):
        return None
    if isinstance(value, dict):
        return {name: _from_toml(held) for name, held in value.items()}
    return [_from_toml(held) for held in value] if isinstance(value, list) else value


def _toml(value: Any) -> str:
    """A value as TOML; JSON writes text and numbers alike, but for one character."""
    if value is None:
        return "{none = true}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(name))} = {_toml(held)}" for name, held in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    text = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
