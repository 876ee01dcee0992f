"""How a data set is asked for: events or frames, by which of the three ways, in a folder of which name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ...errors import check_choice
from ..events import Array
from ..faults import OptionError
from ..frames.integrate import (
    check_count,
    check_positive,
    integrate_events_by_fixed_duration,
    integrate_events_by_fixed_frames_number,
)

__all__ = ["ARGUMENTS", "Options", "followed_by"]

ARGUMENTS = """
- `root`: the folder of the data set. What is there is used; what is not is made from what is, once.
- `data_type`: `'event'` for the events as they were recorded, `'frame'` for frames `[T, 2, H, W]` of counts.
- `frames_number`, `split_by`: so many frames, split by `'number'` of events or by `'time'`; or
- `duration`: frames of this length, in the unit of the times; or
- `custom_integrate_function`: frames as `f(events, H, W)` makes them, kept in the folder
  `custom_integrated_frames_dir_name`, or one with the name of the function.
- `transform`, `target_transform`: called with each sample, and with each label.
- `workers`, `compressed`: how many processes convert (by default one a processor), and whether files are compressed.
"""

F = TypeVar("F", bound=Callable[..., None])


def followed_by(shared: Callable[..., None], first: str = "data_type") -> Callable[[F], F]:
    """Let a constructor show the arguments that it hands on: those of another one, from `first` on.

    >>> def general(self, root, train=None, data_type="event", *, workers=None): ...
    >>> @followed_by(general)
    ... def special(self, root, *arguments, **options): ...
    >>> inspect.signature(special)
    <Signature (self, root, data_type='event', *, workers=None)>
    """
    others = list(inspect.signature(shared).parameters.values())
    others = others[[parameter.name for parameter in others].index(first) :]
    passed_on = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    def shown(constructor: F) -> F:
        signature = inspect.signature(constructor)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind not in passed_on]
        constructor.__signature__ = signature.replace(parameters=[*own, *others])  # type: ignore[attr-defined]
        constructor.__doc__ = f"{constructor.__doc__ or ''}\n{ARGUMENTS}"
        return constructor

    return shown


class Options:
    """What is asked of a data set, checked; and the name of the folder that holds it."""

    def __init__(
        self,
        owner: str,
        data_type: str,
        frames_number: int | None,
        split_by: str | None,
        duration: float | None,
        custom: Callable[..., Any] | None,
        custom_name: str | None,
    ) -> None:
        check_choice(owner, "data_type", data_type, ("event", "frame"), OptionError)
        self.frames_number, self.split_by, self.duration, self.custom = frames_number, split_by, duration, custom
        self.frames = data_type == "frame"
        if not self.frames:
            return
        ways = {"frames_number": frames_number, "duration": duration, "custom_integrate_function": custom}
        given = [name for name, value in ways.items() if value is not None]
        if not given:
            raise OptionError(
                f"{owner}: data_type='frame' needs one of frames_number (with split_by), duration, or "
                "custom_integrate_function, but none is given."
            )
        if frames_number is not None:
            check_count(f"{owner}: frames_number", frames_number)
            check_choice(owner, "split_by", split_by, ("time", "number"), OptionError)
            self.folder = f"frames_number_{frames_number}_split_by_{split_by}"
        elif duration is not None:
            check_positive(f"{owner}: duration", duration)
            self.folder = f"duration_{duration}"
        else:
            self.folder = custom_name or str(getattr(custom, "__name__", type(custom).__name__))
            taken = ("download", "extract", "events_np", "..", ".")
            if Path(self.folder).name != self.folder or self.folder in (*taken, "<lambda>"):
                raise OptionError(
                    f"{owner}: the frames of a function of your own need a folder under the root, but {self.folder!r} "
                    "is no name for one. Give custom_integrated_frames_dir_name."
                )
        if len(given) > 1:
            warnings.warn(f"{owner}: of {', '.join(given)} the first is used. Give one.", stacklevel=4)

    def integrate(self, events: Any, H: int, W: int) -> Array:
        """The frames of one sample."""
        if self.frames_number is not None:
            return integrate_events_by_fixed_frames_number(events, str(self.split_by), self.frames_number, H, W)
        if self.duration is not None:
            return integrate_events_by_fixed_duration(events, self.duration, H, W)
        assert self.custom is not None
        return self.custom(events, H, W)

    def file_name(self, source: Path, frames: Array) -> str:
        """The name of the file of frames: by duration it ends with their number."""
        by_duration = self.frames and self.frames_number is None and self.duration is not None
        return f"{source.stem}_{len(frames)}.npz" if by_duration else f"{source.stem}.npz"
