"""A sample of the random configurations of `fuzz_backends`, and whether it would see a wrong kernel."""

import pytest
import torch
from fuzz_backends import NEURONS, PER_FORM, compared, configuration, described, differ, main, sweep

from spikescope.dynamics.graphs import program
from spikescope.dynamics.graphs.prologue import Rest


def test_a_sample_of_configurations():
    counts, failures = sweep(range(2 * PER_FORM, 2 * PER_FORM + 12), seed=1)
    assert not failures
    assert counts["kernel"] >= 6


def test_every_neuron_has_its_turn_and_a_number_is_one_configuration():
    drawn = {configuration(0, PER_FORM * turn)[0].neuron for turn in range(len(NEURONS))}
    assert drawn == set(NEURONS)
    assert described(*configuration(0, 77)) == described(*configuration(0, 77))


def test_a_prologue_in_double_precision_is_seen(monkeypatch, capsys):
    first = PER_FORM * next(i for i, cls in enumerate(NEURONS) if cls.__name__ == "CUBALIFNode")
    numbers = [i for i in range(first, first + PER_FORM) if configuration(0, i)[1].x_seq.numel()]
    number = next(i for i in numbers if compared(*configuration(0, i))[0] == "kernel")
    monkeypatch.setattr("sys.argv", ["fuzz_backends.py", "--only", str(number)])
    assert main() == 0
    among = Rest.among
    monkeypatch.setattr(
        "spikescope.dynamics.graphs.prologue.Rest.among", lambda self, held: [each * 1.37 for each in among(self, held)]
    )
    program.program.cache_clear()
    assert main() == 1
    assert f"fuzz_backends.py --seed 0 --only {number}" in capsys.readouterr().out
    program.program.cache_clear()


@pytest.mark.parametrize(
    ("got", "why"),
    [
        ([1.0, torch.nan], "NaN in 1 places for 0"),
        ([1.0, torch.inf], "infinite in 1 places for 0"),
        ([1.0, 2.1], "off by"),
        ([1.0, 2.0], None),
    ],
)
def test_what_counts_as_another_result(got, why):
    found = differ(torch.tensor(got), torch.tensor([1.0, 2.0]), False, torch.float32)
    assert found is why if why is None else why in found
