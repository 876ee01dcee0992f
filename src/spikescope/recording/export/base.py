"""What a format is, the registry of formats, and the methods `to_...` that a recording has from it."""

from __future__ import annotations

import inspect
import os
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final

from ...errors import did_you_mean, missing_extra
from ...files import OutputError, draft
from .source import Source

__all__ = ["Exports", "FileFormat", "Format", "ObjectFormat", "registry", "writers"]

registry: Final[dict[str, Format]] = {}
"""The formats by name: a class derived from `FileFormat` or `ObjectFormat` with a `name` is one of them."""

CHOICE: Final = ("layers", "signals", "runs", "dt", "progress")
"""The options of every export; `COMMON` is what their documentation says."""

COMMON = """
    - `layers`, `signals`: names, or patterns such as `'conv*'`, of what is exported; None takes all that the format
      holds, with one warning that names what it does not.
    - `runs`: a number, a slice or several numbers; None takes all.
    - `dt`: the seconds that a step stands for, where the recording does not say.
    - `progress`: a function of done and all, called as the work goes on."""


class Format(ABC):
    """A format to which a recording goes: what it needs, what it holds, and the work itself."""

    name: ClassVar[str] = ""
    extra: ClassVar[str]  # that brings the packages
    packages: ClassVar[tuple[str, ...]]  # that the export imports
    saving: ClassVar[tuple[str, ...]] = ()  # that saving to a file imports beside them
    seconds: ClassVar[bool]  # whether its times are seconds, so that dt has to be known
    values: ClassVar[bool]  # whether it holds real numbers, such as potentials, and not spikes alone
    suffixes: ClassVar[tuple[str, ...]]  # of the file that it writes; none for a folder
    keeps: ClassVar[str]
    loses: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if not cls.name:
            return
        made = registry[cls.name] = cls()
        setattr(Exports, f"to_{cls.name}", made.method())

    @classmethod
    def check(cls, *packages: str) -> None:
        """Refuse to begin without these packages, in words that say which extra brings them."""
        for package in packages:
            try:
                import_module(package)
            except ImportError as error:
                raise missing_extra(package, cls.extra, f"Exports to {cls.name}") from error

    @classmethod
    def source(cls, recording: Any, **choice: Any) -> Source:
        """What of a recording goes to the format; what it cannot hold is told in one warning."""
        source = Source(f"to_{cls.name}", recording, seconds=cls.seconds, values=cls.values, **choice)
        if source.left_out:
            why = (
                "numbers of a layer belong to no sample, and so to no trial. Read them from the recording."
                if cls.values
                else "the format holds spikes alone. Choose what is exported with signals='spike'."
            )
            warnings.warn(
                f"to_{cls.name} leaves out {', '.join(source.left_out)}: {why}",
                UserWarning,
                stacklevel=4 if issubclass(cls, FileFormat) else 3,  # whoever has called the method
            )
        return source

    @abstractmethod
    def write(self, *work: Any, **options: Any) -> None:
        """Write what a `source` holds to a file, or fill the folder that is there: `write(source, path, ...)`."""

    @abstractmethod
    def method(self) -> Callable[..., Any]:
        """The method of a recording."""

    def export(self, recording: Any, path: str | os.PathLike[str], overwrite: bool, **choice: Any) -> Path:
        """Write a file or a folder, whole or not at all, and give its path."""
        self.check(*self.packages, *self.saving)
        target, own = Path(path), {key: choice.pop(key) for key in self.own() if key in choice}
        if self.suffixes and not target.name.endswith(self.suffixes):
            raise ValueError(
                f"to_{self.name} writes a file whose name ends in {' or '.join(self.suffixes)}, but got "
                f"{target.name!r}."
            )
        replaced = bool(self.suffixes) and target.is_file()  # a folder is never removed
        if os.path.lexists(target) and not (overwrite and replaced):
            cure = "Give overwrite=True to replace it, or another" if replaced else "Give another"
            raise OutputError(f"to_{self.name}: {target} is there already. {cure} name.")
        source = self.source(recording, **choice)
        with draft(target, folder=not self.suffixes) as place:
            self.write(source, place, **own)
        return target

    def own(self) -> list[str]:
        """The options that this format has beside the common ones."""
        given = inspect.signature(self.work()).parameters.values()
        variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD  # as the base class has them
        return [held.name for held in given if held.name not in ("source", "path") and held.kind not in variadic]

    @abstractmethod
    def work(self) -> Callable[..., Any]:
        """The function whose options the method has."""

    def described(self, method: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> Callable[..., Any]:
        """The method with its name, its signature and its text."""
        options = inspect.signature(self.work()).parameters
        own = [options[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in self.own()]
        choice = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in CHOICE]
        held: Any = method
        held.__name__, held.__qualname__ = f"to_{self.name}", f"Exports.to_{self.name}"
        held.__signature__ = inspect.Signature([*parameters, *own, *choice])
        summary, _, rest = inspect.cleandoc(self.work().__doc__ or "").partition("\n")
        needs = f"Keeps {self.keeps}. Loses {self.loses}. Needs the extra `{self.extra}`."
        held.__doc__ = f"{summary}\n\n{needs}\n{rest}\n{inspect.cleandoc(COMMON)}\n"
        return method


_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_PATH = inspect.Parameter("path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OVERWRITE = inspect.Parameter("overwrite", inspect.Parameter.KEYWORD_ONLY, default=False)


class FileFormat(Format):
    """A format that is a file or a folder: `write` makes it, `to_...(path)` gives the path."""

    def work(self) -> Callable[..., Any]:
        return self.write

    def method(self) -> Callable[..., Any]:
        def to(recording: Any, path: str | os.PathLike[str], *, overwrite: bool = False, **choice: Any) -> Path:
            return self.export(recording, path, overwrite, **_known(self, choice))

        return self.described(to, (_SELF, _PATH, _OVERWRITE))


class ObjectFormat(Format):
    """A format that is an object in memory: `to_...()` gives it; the command line saves it."""

    @abstractmethod
    def make(self, *work: Any, **options: Any) -> Any:
        """The object that holds what a `source` holds: `make(source, ...)`."""

    @abstractmethod
    def save(self, made: Any, path: Path) -> None:
        """Write the object by the means of its own library."""

    def write(self, source: Source, path: Path, **options: Any) -> None:
        self.save(self.make(source, **options), path)

    def work(self) -> Callable[..., Any]:
        return self.make

    def method(self) -> Callable[..., Any]:
        def to(recording: Any, **choice: Any) -> Any:
            self.check(*self.packages)
            choice = _known(self, choice)
            own = {key: choice.pop(key) for key in self.own() if key in choice}
            return self.make(self.source(recording, **choice), **own)

        return self.described(to, (_SELF,))


def _known(held: Format, choice: dict[str, Any]) -> dict[str, Any]:
    """Refuse an option that there is not, in words, before any work."""
    known = [*held.own(), *CHOICE]
    for name in choice:
        if name not in known:
            raise TypeError(
                f"to_{held.name} has no option {name!r}; it has {', '.join(known)}.{did_you_mean(name, known)}"
            )
    return choice


def writers(ending: str) -> list[str]:
    """The formats that write files of an ending, without its dot.

    >>> writers("csv"), writers("docx")
    (['pandas'], [])
    """
    return [name for name, held in registry.items() if f".{ending.lower()}" in held.suffixes]


class Exports:
    """The methods `to_...` of a recording, one for each format."""

    def __getattr__(self, name: str) -> Any:
        advice = ""
        if name.startswith("to_"):
            known = [f"to_{held}" for held in registry]
            near = " or ".join(f"to_{held}" for held in writers(name.removeprefix("to_")))
            near = f" Files {name.replace('to_', '.', 1)} come by {near}." if near else did_you_mean(name, known)
            advice = f" There is {', '.join(known)}.{near}"
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}.{advice}", name=name, obj=self)


def emptied(folder: Path) -> Path:
    """The folder, with nothing in it: for libraries that want to make their folder themselves."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
