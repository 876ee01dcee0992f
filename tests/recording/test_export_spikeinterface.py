"""A recording as a sorting of SpikeInterface, in the environment of `make interop`."""

import numpy as np
import pytest
from export_cases import DT, TRIALS, account, made_of, recording, tensors, together

from spikescope.recording.export import registry

spikeinterface = pytest.importorskip("spikeinterface")


@pytest.mark.parametrize("saved", [False, True])
def test_trials_are_segments_and_steps_are_frames(saved, tmp_path):
    made = recording()
    sorting = made.to_spikeinterface(signals="spike")
    if saved:
        path = registry["spikeinterface"].export(made, tmp_path / "sorting", overwrite=False, signals="spike")
        sorting = spikeinterface.load(path)
    assert sorting.get_num_segments() == 5
    assert sorting.sampling_frequency == pytest.approx(1 / DT)
    assert sorting.get_annotation("run") == [0, 0, 2, 2, 2]
    assert sorting.get_annotation("label") == [7, 3, 1, 1, 5]
    layers, neurons = sorting.get_property("layer"), sorting.get_property("neuron")
    for unit in sorting.unit_ids:
        for segment, (run, sample, _) in enumerate(TRIALS):
            wanted = [t for r, s, t, n in account(layers[unit]) if (r, s, n) == (run, sample, neurons[unit])]
            np.testing.assert_array_equal(sorting.get_unit_spike_train(unit, segment_index=segment), wanted)


@pytest.mark.parametrize("silent", [slice(2, 3), slice(0, 3)])
def test_silent_trials_at_the_end_are_segments_all_the_same(silent):

    held = tensors()["head", "spike"]
    held[2][:, silent] = 0
    sorting = together([made_of("head", "spike", held)]).to_spikeinterface()
    assert sorting.get_num_segments() == 5
    assert sorting.get_unit_spike_train(0, segment_index=4).tolist() == []


def test_a_recording_without_a_spike_is_a_sorting_of_silent_units():
    sorting = recording(silent=True).to_spikeinterface(signals="spike")
    assert (sorting.get_num_segments(), len(sorting.unit_ids)) == (5, 10)
    assert sorting.count_total_num_spikes() == 0
