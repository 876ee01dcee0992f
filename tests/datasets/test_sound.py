"""Data sets of sounds: spikes of a cochlea in HDF5, and words as waveforms."""

import wave

import numpy as np
import pytest
import torch
from recordings import recording, tarred

from spikescope import datasets
from spikescope.datasets.folders.resources import extract_archive
from spikescope.files import OutputError


def spikes_file(path, labels, number=40):
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [recording(number + n, 1, 700, seed=n) for n in range(len(labels))]
    with h5py.File(path, "w") as file:
        for name, column, kind in (("times", "t", np.float16), ("units", "x", np.int64)):
            held = file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(kind))
            for n, sample in enumerate(samples):
                held[n] = (sample[column] / (1e5 if name == "times" else 1)).astype(kind)
        file["labels"] = np.array(labels, np.uint16)
    return samples


@pytest.mark.parametrize("place", ["extract", "events_h5"])  # the ages of the reference differ
def test_spiking_heidelberg_digits(place, tmp_path):
    samples = spikes_file(tmp_path / place / "shd_train.h5", [3, 19, 3])
    spikes_file(tmp_path / place / "shd_test.h5", [0])
    events, label = datasets.SpikingHeidelbergDigits(tmp_path, True)[1]
    assert (label, events["t"].dtype) == (19, np.float16)
    assert np.array_equal(events["x"], samples[1]["x"])
    frames = datasets.SpikingHeidelbergDigits(tmp_path, True, "frame", 5, "time")
    assert [name.split("/")[-3:] for name, _ in frames.samples] == [
        ["train", "3", "0.npz"],
        ["train", "3", "2.npz"],
        ["train", "19", "1.npz"],
    ]
    assert frames.targets == [3, 3, 19]
    assert np.array_equal(frames[2][0], datasets.integrate_spikes(events, 700, 5, "time"))
    assert frames.classes_number() == 20
    by_duration = datasets.SpikingHeidelbergDigits(tmp_path, False, "frame", duration=0.25)
    assert by_duration[0][0].sum() == 40


def test_spiking_speech_commands_and_a_function_of_ones_own(tmp_path):
    for part in ("train", "valid", "test"):
        spikes_file(tmp_path / f"extract/ssc_{part}.h5", [34, 1])

    def halves(h5_file, i, output_dir, W):
        counts = np.bincount(h5_file["spikes"]["units"][i], minlength=W)
        datasets.np_savez(f"{output_dir}/{h5_file['labels'][i]}/{i}", frames=np.stack([counts, counts]))

    held = datasets.SpikingSpeechCommands(tmp_path, "valid", "frame", custom_integrate_function=halves)
    assert held.targets == [1, 34]
    assert held[0][0].shape == (2, 700)
    assert (tmp_path / "halves/test/34/0.npz").exists()


def test_damaged_files_of_spikes_are_refused_in_words(tmp_path):
    h5py = pytest.importorskip("h5py")
    spikes_file(tmp_path / "extract/shd_train.h5", [3, 4])
    whole = (tmp_path / "extract/shd_train.h5").read_bytes()
    (tmp_path / "extract/shd_train.h5").write_bytes(whole[:500])
    with pytest.raises(datasets.FormatError, match=r"shd_train\.h5 cannot be read as HDF5"):
        datasets.SpikingHeidelbergDigits(tmp_path, True)
    (tmp_path / "extract/shd_train.h5").write_bytes(whole)
    with h5py.File(tmp_path / "extract/shd_train.h5", "r+") as file:
        del file["labels"]
        file["labels"] = np.zeros(5, np.uint16)
    with pytest.raises(datasets.FormatError, match="it has 5 labels, times of 2 samples"):
        datasets.SpikingHeidelbergDigits(tmp_path, True)
    with h5py.File(tmp_path / "extract/shd_train.h5", "r+") as file:
        del file["labels"]
    with pytest.raises(datasets.FormatError, match="lacks spikes/times"):
        datasets.SpikingHeidelbergDigits(tmp_path, True)


def write_wave(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.asarray(samples, "<i2").tobytes())


def test_speech_commands(tmp_path):
    place = tmp_path / "SpeechCommands/speech_commands_v0.02"
    for word, number in (("yes", 3), ("no", 2)):
        for n in range(number):
            write_wave(place / f"{word}/{n:02x}_nohash_0.wav", [0, 100, -200 * (n + 1), 50])
    write_wave(place / "_background_noise_/hum.wav", np.arange(100))
    (place / "validation_list.txt").write_text("yes/02_nohash_0.wav\n")
    (place / "testing_list.txt").write_text("no/01_nohash_0.wav\n")
    labels = {"yes": 0, "no": 1, "_silence_": 2}
    train = datasets.SPEECHCOMMANDS(labels, tmp_path, silence_cnt=2, silence_size=10)
    assert [label for _, label in train] == [1, 0, 0, 2, 2]
    assert train[0][0].tolist() == [[0.0, 0.5, -1.0, 0.25]]
    assert train[3][0].shape == (1, 10)
    assert torch.allclose(train.weights * 4, torch.tensor([2, 1, 1, 1, 1], dtype=torch.float64))
    assert [label for _, label in datasets.SPEECHCOMMANDS(labels, tmp_path, split="val")] == [0]
    assert len(datasets.SPEECHCOMMANDS(labels, tmp_path, split="test", transform=lambda x: x.sum())[0]) == 2
    for given in (
        {"silence_cnt": -1},
        {"silence_cnt": None},
        {"silence_cnt": len},
        {"silence_size": 0},
        {"silence_size": True},
    ):
        with pytest.raises(datasets.OptionError, match=rf"{next(iter(given))} must be a whole number of at least"):
            datasets.SPEECHCOMMANDS(labels, tmp_path, **given)
    with pytest.raises(datasets.MissingFilesError, match=r"speech_commands_v0\.01\.tar\.gz is missing; from https"):
        datasets.SPEECHCOMMANDS(labels, tmp_path, url="speech_commands_v0.01")
    (place / "yes/00_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(datasets.FormatError, match="cannot be read as WAV"):
        train[1]


@pytest.mark.parametrize("asked", [{}, {"data_type": "frame", "frames_number": 2, "split_by": "time"}])
def test_labels_that_are_no_classes_are_refused(asked, tmp_path):
    spikes_file(tmp_path / "extract/shd_train.h5", [3, 20])
    with pytest.raises(datasets.FormatError, match=r"shd_train\.h5 is damaged: labels .* from 0 to 19"):
        datasets.SpikingHeidelbergDigits(tmp_path, True, **asked)


def words(*names):
    silent = {"validation_list.txt": b"", "testing_list.txt": b""}
    return tarred(silent | {f"{name}/0_nohash_0.wav": b"RIFF" for name in names})


def test_words_that_were_unpacked_half_are_unpacked_anew(tmp_path, monkeypatch):
    (tmp_path / "words.tar.gz").write_bytes(words("no", "yes"))

    def killed(_, folder):
        (tmp_path / "half.tar.gz").write_bytes(words("no"))
        extract_archive(tmp_path / "half.tar.gz", folder)
        raise KeyboardInterrupt

    asked = {"label_dict": {"no": 0, "yes": 1}, "root": tmp_path, "url": "https://example.org/words.tar.gz"}
    with monkeypatch.context() as patch:
        patch.setattr("spikescope.datasets.speechcommands.extract_archive", killed)
        with pytest.raises(KeyboardInterrupt):
            datasets.SpeechCommands(**asked)
    assert len(datasets.SpeechCommands(**asked)) == 2


def test_words_in_a_folder_that_cannot_be_written_are_read(tmp_path, monkeypatch):
    extract = tmp_path / "SpeechCommands/words"
    (tmp_path / "words.tar.gz").write_bytes(words("no"))
    extract_archive(tmp_path / "words.tar.gz", extract)

    def refuse(path, _):
        raise OutputError(f"{path} could not be written: read-only file system.")

    monkeypatch.setattr("spikescope.datasets.speechcommands.write_whole", refuse)
    assert len(datasets.SpeechCommands({"no": 0}, tmp_path, url="words")) == 1
