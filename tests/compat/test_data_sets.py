"""Data sets by the paths that scripts import them from, and the settings of conversions."""

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
