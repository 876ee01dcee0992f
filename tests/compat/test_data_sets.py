"""Data sets by the paths that scripts import them from, and the settings of conversions."""

import io

import numpy as np
import pytest

import fresh

SCRIPT = """
import os
import numpy as np
import spikingjelly.datasets as sjds
from spikingjelly import configure
from spikingjelly.datasets import play_frame, split_to_train_test_set
from spikingjelly.datasets.{module} import {names}

configure.max_threads_number_for_datasets_preprocess = 1
configure.save_datasets_compressed = False
sjds.np_savez("plain.npz", frames=np.zeros((64, 64)))
print(os.path.getsize("plain.npz") > 64 * 64 * 8, os.environ["SPIKESCOPE_DATASET_WORKERS"])
print(*(kind.__module__ for kind in ({names},)))
"""
MODULES = {
    "asl_dvs": "ASLDVS",
    "cifar10_dvs": "CIFAR10DVS",
    "dvs128_gesture": "DVS128Gesture",
    "es_imagenet": "ESImageNet",
    "hardvs": "HARDVS",
    "n_caltech101": "NCaltech101",
    "n_mnist": "NMNIST",
    "nav_gesture": "NAVGestureSit, NAVGestureWalk",
    "shd": "SpikingHeidelbergDigits, SpikingSpeechCommands",
    "speechcommands": "SPEECHCOMMANDS",
    "dvs_lip": "DVSLip",
    "bullying10k": "Bullying10kClassification",
    "base": "NeuromorphicDatasetFolder",
    "utils": "load_aedat_v3, load_ATIS_bin, load_npz_frames, integrate_events_by_fixed_duration",
    "transform": "RandomTemporalDelete",
}


def test_a_script_imports_them_and_its_settings_hold(tmp_path):
    imports = "\n".join(f"from spikingjelly.datasets.{module} import {names}" for module, names in MODULES.items())
    (tmp_path / "script.py").write_text(imports + SCRIPT.format(module="shd", names=MODULES["shd"]))
    done = fresh.run("-m", "spikescope.compat", "script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True 1", "spikescope.datasets.shd spikescope.datasets.shd"]


TEXT = b"#!AER-DAT2.0\r\n# one line more\r\n"
ADDRESSES = [0x80000000 | 0x1234, (5 << 22) | (7 << 12) | 0x800, (511 << 22) | (1023 << 12)]
TIMES = [10, 20, 0xFFFFFFFE]


@pytest.fixture
def recording(tmp_path):
    pairs = np.array([ADDRESSES, TIMES], dtype=">u4").T
    (tmp_path / "a.aedat").write_bytes(TEXT + pairs.tobytes())
    with (tmp_path / "a.aedat").open("rb") as file:
        yield file


@pytest.mark.usefixtures("aliases")
def test_events_of_an_open_file_by_the_masks_of_a_camera(recording):
    from spikingjelly.datasets import cifar10_dvs

    assert cifar10_dvs.skip_header(recording) == len(TEXT)
    t, x, y, polarity = cifar10_dvs.load_events(recording, filter_dvs=True)  # without the first one, which is a frame
    assert [held.tolist() for held in (t, x, y, polarity)] == [TIMES[1:], [7, 1023], [5, 511], [True, False]]
    assert len(cifar10_dvs.load_events(recording)[0]) == 3
    t, address = cifar10_dvs.load_raw_events(recording, bytes_skip=8, bytes_trim=8)
    assert (t.tolist(), address.tolist()) == ([20], [ADDRESSES[1]])
    address, t = cifar10_dvs.load_raw_events(recording, times_first=True)
    assert (t.tolist(), address.tolist()) == (TIMES, ADDRESSES)
    with pytest.raises(ValueError, match=r"a\.aedat.*8 bytes each, but 23 bytes are there"):
        cifar10_dvs.load_raw_events(recording, bytes_trim=1)
    for given, words in (
        ({"bytes_trim": -8}, "bytes_trim must be a whole number of at least 0, but got -8"),
        ({"bytes_skip": 16, "bytes_trim": 16}, "bytes_skip=16 and bytes_trim=16 are more than the 24 bytes"),
    ):
        with pytest.raises(ValueError, match=words):
            cifar10_dvs.load_raw_events(recording, **given)
    for wrong in (recording.name, io.StringIO("#!AER-DAT2.0")):
        with pytest.raises(TypeError, match="open for reading bytes"):
            cifar10_dvs.load_events(wrong)


@pytest.mark.usefixtures("aliases")
def test_events_by_the_masks_of_a_data_set_are_those_of_the_data_set(recording):
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS, load_events

    masks = {"x_mask": 0xFE, "x_shift": 1, "y_mask": 0x7F00, "y_shift": 8, "polarity_mask": 1, "polarity_shift": None}
    t, x, y, polarity = load_events(recording, **masks)
    held = CIFAR10DVS.load_origin_data(recording.name)
    for mine, theirs in zip((t, 127 - y, 127 - x, 1 - polarity.astype(int)), held.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.usefixtures("aliases")
def test_events_of_a_sample_of_es_imagenet(tmp_path):
    from spikingjelly.datasets.es_imagenet import ESImageNet, load_events

    np.savez(tmp_path / "a.npz", pos=np.array([[1, 2, 30]]), neg=np.array([[3, 4, 10]]))
    held = load_events(tmp_path / "a.npz")
    assert {key: value.tolist() for key, value in held.items()} == {
        "x": [4, 2],
        "y": [3, 1],
        "t": [10, 30],
        "p": [0, 1],
    }
    assert load_events is ESImageNet.load_events_np


@pytest.mark.usefixtures("aliases")
def test_constants_of_spoken_words_are_those_of_their_archives():
    from spikingjelly.datasets import shd, speechcommands

    assert (shd.SHD_N_CLASSES, shd.SSC_N_CLASSES) == (20, 35)
    assert speechcommands.HASH_DIVIDER == "_nohash_"
    assert speechcommands.URL == "speech_commands_v0.02"
    assert speechcommands.FOLDER_IN_ARCHIVE == "SpeechCommands"
    assert speechcommands.EXCEPT_FOLDER == "_background_noise_"
    lists = (speechcommands.TRAIN_RECORD, speechcommands.VAL_RECORD, speechcommands.TEST_RECORD)
    assert lists == ("training_list.txt", "validation_list.txt", "testing_list.txt")
