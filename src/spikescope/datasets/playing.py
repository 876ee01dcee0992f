"""Event clips to look at: played, as a GIF or MP4, as pictures."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import missing_extra
from ..files import write_whole
from .events import Array, StoredPath
from .faults import EventsError

__all__ = ["play_frame", "save_as_pic", "save_as_video"]


def _colours(x: Any) -> Array:
    """Frames `[T, 2, H, W]` as pictures `[T, H, W, 3]`: OFF green, ON blue, the largest count of the clip brightest."""
    frames = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if frames.ndim != 4 or frames.shape[1] != 2 or not len(frames):
        raise EventsError(f"Frames to look at have the shape [T, 2, H, W], but got {list(frames.shape)}.")
    most = max(float(frames.max(initial=0)), 1e-12)
    scaled = (np.clip(frames / most, 0, 1) * 255).round().astype(np.uint8)
    return np.stack([np.zeros_like(scaled[:, 0]), scaled[:, 0], scaled[:, 1]], axis=-1)


def _enlarged(x: Any, scale: int) -> Array:
    return _colours(x).repeat(scale, axis=1).repeat(scale, axis=2)


def play_frame(x: Any, save_gif_to: StoredPath | None = None, *, scale: int = 1, seconds: float = 0.1) -> None:
    """Play frames `[T, 2, H, W]` in a window until it is closed, or save them: as a GIF, or as what ends with `.mp4`.

    - `scale`: pixels of the picture a pixel of the sensor; `seconds`: how long a frame is shown.
    """
    if save_gif_to is not None and os.fspath(save_gif_to).lower().endswith(".mp4"):
        save_as_video(x, save_gif_to, scale=scale, seconds=seconds)
        return
    pictures = _enlarged(x, scale)
    if save_gif_to is None:
        _play(pictures, seconds)
        return
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "events", "GIFs") from error
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(
        os.fspath(save_gif_to),
        format="GIF",
        save_all=True,
        append_images=others,
        loop=0,
        duration=max(20, round(1000 * seconds)),
    )


def save_as_video(x: Any, save_video_to: StoredPath, *, scale: int = 4, seconds: float = 0.1) -> None:
    """Save frames `[T, 2, H, W]` as an MP4 that browsers play. Needs av.

    - `scale`: pixels of the picture a pixel of the sensor; `seconds`: how long a frame is shown.
    """
    try:
        import av
    except ImportError as error:
        raise missing_extra("av", "video", "MP4 files") from error
    pictures = _enlarged(x, scale)
    height, width = (side + side % 2 for side in pictures.shape[1:3])  # which the codec wants to be even
    pictures = np.pad(pictures, [(0, 0), (0, height - pictures.shape[1]), (0, width - pictures.shape[2]), (0, 0)])
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=Fraction(1 / seconds).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    write_whole(save_video_to, held.getvalue())


def _play(pictures: Array, seconds: float) -> None:
    """Show the clip again and again until its window is closed; once, where there are no windows."""
    pyplot = _pyplot()
    shown = pyplot.imshow(pictures[0])
    pyplot.axis("off")
    number, again = shown.figure.number, pyplot.get_backend().lower() not in ("agg", "svg", "pdf")
    while pyplot.fignum_exists(number):
        for picture in pictures:
            shown.set_data(picture)
            pyplot.pause(seconds)
        if not again:
            pyplot.close(number)


def save_as_pic(x: Any, save_pic_to: StoredPath = "./", pic_first_name: str = "pic") -> None:
    """Save each of the frames `[T, 2, H, W]` as a picture, `{pic_first_name}_{t}.png`."""
    folder = Path(save_pic_to)
    folder.mkdir(parents=True, exist_ok=True)
    pyplot = _pyplot()
    for number, picture in enumerate(_colours(x)):
        pyplot.imsave(folder / f"{pic_first_name}_{number}.png", picture)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise missing_extra("matplotlib", "report", "Pictures") from error
    return pyplot
