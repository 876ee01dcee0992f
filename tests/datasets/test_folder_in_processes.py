"""Data sets in the processes of others: loaders of PyTorch, and scripts that begin with a data set."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from test_folder import PATH, Small, root
from torch.utils.data import DataLoader

from sample import sample
from spikescope import datasets

__all__ = ["root"]  # a fixture


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_loaders_in_processes(context, workers, root):
    held = Small(root, True, "frame", 4, "time", transform=torch.as_tensor)
    loader = DataLoader(held, batch_size=2, num_workers=workers, multiprocessing_context=context)
    frames, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(frames), torch.stack([sample for sample, _ in held]))
    assert torch.cat(labels).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("context", sample(["fork", "spawn"], "fork"))  # which begins with the file open
def test_loaders_of_hdf5_in_processes(context, tmp_path):
    from test_sound import spikes_file

    samples = spikes_file(tmp_path / "extract/shd_train.h5", [3, 4, 5, 6])
    held = datasets.SpikingHeidelbergDigits(tmp_path, True)
    assert len(held[0][0]["x"]) == 40  # the file is open when the processes begin
    loader = DataLoader(held, batch_size=None, num_workers=2, multiprocessing_context=context)
    for (events, label), given, wanted in zip(loader, samples, (3, 4, 5, 6), strict=True):
        assert np.array_equal(events["x"], given["x"])
        assert label == wanted


def test_a_set_made_inside_a_worker_of_a_loader(root):
    class Inside(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return len(Small(root, True, "frame", 5, "time", workers=2))

    assert next(iter(DataLoader(Inside(), num_workers=1, multiprocessing_context="fork"))).item() == 4


def test_a_script_without_a_guard_converts(root):
    """As scripts are written for the reference: the constructor at the top, a function of the script beside."""
    code = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {PATH!r}
        from test_folder import Small
        own = lambda events, H, W: events["t"][:2].astype(float)[:, None, None, None].repeat(2, 1)
        print(len(Small({str(root)!r}, True, "frame", custom_integrate_function=own,
                        custom_integrated_frames_dir_name="own", workers=2)))
    """)
    (root / "script.py").write_text(code)
    done = subprocess.run([sys.executable, root / "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"
