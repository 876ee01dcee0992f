"""Speech Commands: spoken words as waveforms, read by the standard library."""

from __future__ import annotations

import os
import random
import wave
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import check_choice
from ..files import OutputError, open_regular, write_whole
from .events import StoredPath
from .faults import FormatError, MissingFilesError, OptionError, damage_told
from .folders.convert import under_construction
from .folders.resources import extract_archive, require_files
from .formats.reading import text

__all__ = ["SPEECHCOMMANDS", "SpeechCommands", "load_speechcommands_item"]

FOLDER_IN_ARCHIVE = "SpeechCommands"
URL = "speech_commands_v0.02"
HASH_DIVIDER = "_nohash_"
EXCEPT_FOLDER = "_background_noise_"
TRAIN_RECORD, VAL_RECORD, TEST_RECORD = "training_list.txt", "validation_list.txt", "testing_list.txt"
HOST = "https://storage.googleapis.com/download.tensorflow.org/data"
MD5 = {
    "speech_commands_v0.01": "3cd23799cb2bbdec517f1cc028f8d43c",
    "speech_commands_v0.02": "6b74f3901214cb2c2934e98196829835",
}


def load_wave(path: StoredPath) -> tuple[Tensor, int]:
    """A file of 16-bit samples as a waveform [channels, length] from -1 to 1, and its rate."""
    with damage_told(path, "WAV"), open_regular(path) as held_by, wave.open(held_by, "rb") as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        held = file.readframes(file.getnframes())
    if width != 2:
        raise FormatError(f"{path} has samples of {8 * width} bits; those of Speech Commands have 16.")
    samples = np.frombuffer(held[: len(held) // (2 * channels) * 2 * channels], "<i2").reshape(-1, channels).T
    return torch.from_numpy(samples.astype(np.float32) / 32768), rate


def load_speechcommands_item(relpath: str, path: str) -> tuple[Tensor, int, str, str, int]:
    """Waveform, rate, word, speaker and number of `<word>/<speaker>_nohash_<number>.wav`."""
    label, name = os.path.split(relpath)
    speaker, divider, number = os.path.splitext(name)[0].partition(HASH_DIVIDER)
    if not divider or not number.isdecimal():
        raise FormatError(f"The name of {relpath} must be <word>/<speaker>{HASH_DIVIDER}<number>.wav.")
    waveform, rate = load_wave(os.path.join(path, relpath))
    return waveform, rate, label, speaker, int(number)


class SpeechCommands(Dataset[Any]):
    """Speech Commands: 30 or 35 words, one second each at 16 kHz; samples are `(waveform [1, length], label)`.

    - `label_dict`: the label of each word, and of `"_silence_"`.
    - `silence_cnt`: so many samples of silence are added, cut at random from the background noise, of `silence_size`.
    - `split`: `'train'`, `'val'` or `'test'`; the first is what the lists of the others leave.
    - `weights` (of the train split): by which a `WeightedRandomSampler` draws all classes alike often.

    Waveforms are divided by their largest magnitude.

    Paper: P. Warden, Speech Commands: a dataset for limited-vocabulary speech recognition, arXiv:1804.03209.
    """

    def __init__(
        self,
        label_dict: dict[str, int],
        root: StoredPath,
        silence_cnt: int = 0,
        silence_size: int = 16000,
        transform: Callable[[Tensor], Any] | None = None,
        url: str = URL,
        split: str = "train",
        folder_in_archive: str = FOLDER_IN_ARCHIVE,
        download: bool = False,
    ) -> None:
        check_choice("SpeechCommands", "split", split, ("train", "val", "test"))
        told: tuple[tuple[str, Any, int], ...] = ("silence_cnt", silence_cnt, 0), ("silence_size", silence_size, 1)
        for what, given, least in told:
            if isinstance(given, bool) or not isinstance(given, Integral) or given < least:
                raise OptionError(
                    f"SpeechCommands: {what} must be a whole number of at least {least}, but got {given!r}."
                )
        self.split, self.label_dict, self.transform = split, label_dict, transform
        self.silence_cnt, self.silence_size = silence_cnt, silence_size
        name = os.path.basename(url).removesuffix(".tar.gz")
        self._path = os.path.join(root, folder_in_archive, name)
        with under_construction(Path(self._path)) as draft:
            if draft is not None:
                address = url if "://" in url else f"{HOST}/{url}.tar.gz"
                require_files("SpeechCommands", Path(root), [(f"{name}.tar.gz", address, MD5.get(name))], download)
                extract_archive(Path(root) / f"{name}.tar.gz", draft)
        self.noise_list = sorted(str(file) for file in Path(self._path).glob(f"{EXCEPT_FOLDER}/*.wav"))
        if silence_cnt and not self.noise_list:
            raise MissingFilesError(f"{self._path}/{EXCEPT_FOLDER} has no .wav files to cut silence from.")
        records = {"train": TRAIN_RECORD, "val": VAL_RECORD, "test": TEST_RECORD}
        self._walker = self._training() if split == "train" else self._listed(records[split])
        if split == "train":
            self.weights = self._weights()

    def _listed(self, name: str) -> list[str]:
        path = Path(self._path) / name
        if not path.exists():
            raise MissingFilesError(f"{path} is missing. Delete {self._path}, and unpack the archive anew.")
        return text(path).split()

    def _training(self) -> list[str]:
        path = Path(self._path) / TRAIN_RECORD
        if path.exists():
            return text(path).split()
        others = {*self._listed(VAL_RECORD), *self._listed(TEST_RECORD)}
        files = {file.relative_to(self._path).as_posix() for file in Path(self._path).glob(f"*/*{HASH_DIVIDER}*.wav")}
        kept = sorted(file for file in files - others if not file.startswith(EXCEPT_FOLDER))
        with suppress(OutputError):  # where many share a folder, it may not be theirs to write
            write_whole(path, "\n".join(kept))
        return kept

    def _weights(self) -> Tensor:
        words = [os.path.split(file)[0] for file in self._walker]
        if unknown := sorted(set(words) - set(self.label_dict)):
            raise OptionError(f"SpeechCommands: label_dict has no label for {', '.join(unknown[:8])}.")
        _, where, counts = np.unique([self.label_dict[word] for word in words], return_inverse=True, return_counts=True)
        each, silence = 1 / counts, 1 / self.silence_cnt if self.silence_cnt else 0.0
        weights = torch.from_numpy((each / (each.sum() + silence))[where])
        return torch.cat(
            [
                weights,
                torch.full([self.silence_cnt], silence / (each.sum() + silence), dtype=torch.float64, device="cpu"),
            ]
        )

    def __getitem__(self, n: int) -> tuple[Any, int | None]:
        if n < len(self._walker):
            waveform, _, label, _, _ = load_speechcommands_item(self._walker[n], self._path)
        elif n < len(self):
            waveform, _ = load_wave(random.choice(self.noise_list))
            start = np.random.randint(max(1, waveform.shape[1] - self.silence_size))  # noqa: NPY002  # as all here
            waveform, label = waveform[:, start : start + self.silence_size], "_silence_"
        else:
            raise IndexError(f"SpeechCommands has {len(self)} samples, but got the index {n}.")
        most = waveform.abs().max() if waveform.numel() else waveform.new_zeros(())
        waveform = waveform / most if most > 0 else waveform
        return waveform if self.transform is None else self.transform(waveform), self.label_dict.get(label)

    def __len__(self) -> int:
        return len(self._walker) + self.silence_cnt


SPEECHCOMMANDS = SpeechCommands
