"""From a file of events to a file of frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..events import StoredPath
from ..frames.integrate import integrate_events_by_fixed_duration, integrate_events_by_fixed_frames_number
from .storage import np_savez

__all__ = [
    "integrate_events_file_to_frames_file_by_fixed_duration",
    "integrate_events_file_to_frames_file_by_fixed_frames_number",
]


def integrate_events_file_to_frames_file_by_fixed_frames_number(
    loader: Callable[[Any], Any],
    events_np_file: StoredPath,
    output_dir: StoredPath,
    split_by: str,
    frames_num: int,
    H: int,
    W: int,
    print_save: bool = False,
) -> None:
    """Save the frames of a file of events, by number or by time, under the same name in another folder."""
    frames = integrate_events_by_fixed_frames_number(loader(events_np_file), split_by, frames_num, H, W)
    _save(Path(output_dir) / Path(events_np_file).name, frames, print_save)


def integrate_events_file_to_frames_file_by_fixed_duration(
    loader: Callable[[Any], Any],
    events_np_file: StoredPath,
    output_dir: StoredPath,
    duration: int,
    H: int,
    W: int,
    print_save: bool = False,
) -> int:
    """Save the frames of a file of events, by duration, as `<name>_<number of frames>.npz`, and say how many."""
    frames = integrate_events_by_fixed_duration(loader(events_np_file), duration, H, W)
    _save(Path(output_dir) / f"{Path(events_np_file).stem}_{len(frames)}.npz", frames, print_save)
    return len(frames)


def _save(file: Path, frames: Any, print_save: bool) -> None:
    np_savez(file, frames=frames)
    if print_save:
        print(f"Frames [{file}] saved.")
