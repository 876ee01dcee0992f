"""Layers beside layers, accuracy over time, and a network that reads digits before and after its conversion."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikescope import functional, monitor
from spikescope.ann2snn import AccuracyOverTime, Converter, LayerComparison, accuracy_over_time, compare
from spikescope.errors import ShapeError


def linear(weight):
    weight = torch.tensor(weight)
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight = nn.Parameter(weight)
    return made


def two_layers():
    return nn.Sequential(linear([[1.0], [-1.0]]), nn.ReLU(), linear([[0.5, 0.0], [0.0, 0.5]]), nn.ReLU())


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_layers_by_hand(step_mode):
    ann = two_layers()
    snn = Converter(torch.tensor([[4.0], [-4.0]]))(ann)  # scales 4 and 2
    functional.set_step_mode(snn, step_mode)
    held = compare(ann, snn, torch.tensor([[1.5], [-5.0]]), steps=8)
    assert list(held) == ["1", "3"]
    assert held["1"].activation.tolist() == [[1.5, 0.0], [0.0, 5.0]]
    assert held["1"].rate.tolist() == [[1.5, 0.0], [0.0, 4.0]]  # three spikes of 4 in 8 steps; all of 8
    assert held["1"].error == pytest.approx(1 / math.sqrt(1.5**2 + 5**2))
    assert held["1"].clipped == 0.25
    # its spikes at steps 2, 4, 7 come as 2: as high as the threshold; H = .5, 1.5, .5, 1.5, .5, .5, 1.5, .5
    assert held["3"].rate.tolist() == [[0.75, 0.0], [0.0, 2.0]]
    assert held["3"].clipped == 0.25
    lines = held.table().splitlines()
    assert lines[0].split() == ["layer", "scale", "activation", "rate", "error", "%", "clipped", "%"]
    assert lines[1].split() == ["1", "4.0000", "1.6250", "1.3750", "19.16", "25.00"]
    assert snn.get_submodule("1").neuron.v == 0.0  # at rest again


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = linear([[1.0], [-1.0]])

    def forward(self, x):
        hidden = F.relu(self.first(x))
        return {"less": [hidden.sub_(2.0)], "more": (hidden + 1.0, x)}


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_several_outputs_and_a_sum_in_place(step_mode):
    ann, x = Several(), torch.tensor([[1.5], [-4.0]])
    snn = Converter(torch.tensor([[4.0], [-4.0]]))(ann)
    functional.set_step_mode(snn, step_mode)
    held = compare(ann, snn, x, steps=8)
    assert held["relu"].activation.tolist() == [[1.5, 0.0], [0.0, 4.0]]
    assert held["relu"].rate.tolist() == [[1.5, 0.0], [0.0, 4.0]]
    with pytest.raises(TypeError, match=r"the output of the network must be a torch\.Tensor, but got dict"):
        accuracy_over_time(snn, (x, torch.zeros(2)), steps=1)


def test_monitors_see_the_neurons_inside():
    ann, x = two_layers(), torch.tensor([[1.5], [-5.0]])
    snn = Converter(torch.tensor([[4.0], [-4.0]]))(ann)
    functional.set_step_mode(snn, "m")
    with monitor.record(snn, "rate") as rates:
        snn(x.expand(8, 2, 1))
    functional.reset_net(snn)
    held = compare(ann, snn, x, steps=8)
    assert list(rates) == ["1.neuron", "3.neuron"]
    for name, layer in held.items():
        torch.testing.assert_close((layer.rate / layer.scale).mean(0), rates[f"{name}.neuron"])


def test_the_error_goes_down_with_time():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU())
    x = torch.rand(20, 5)
    snn = Converter(x)(ann)
    errors = [[layer.error for layer in compare(ann, snn, x, steps).values()] for steps in (4, 32, 256)]
    assert all(layer[0] > 4 * layer[1] > 16 * layer[2] for layer in zip(*errors, strict=True))


def test_an_error_where_nothing_is_active():
    none, some = torch.zeros(2), torch.ones(2)
    assert LayerComparison(none, none, some).error == 0.0
    assert LayerComparison(none, some, some).error == math.inf


def test_a_network_that_was_not_converted_from_it():
    snn = Converter(torch.ones(1, 1))(two_layers())
    with pytest.raises(ValueError, match=r"does not come from ann.*\n  ReLUs of ann    1\n  neurons of snn  1, 3"):
        compare(two_layers()[:2], snn, torch.ones(1, 1), steps=2)
    with pytest.raises(ValueError, match="takes a network of ScaledNeuron, but found none"):
        compare(two_layers(), two_layers(), torch.ones(1, 1), steps=2)
    with pytest.raises(KeyError, match="'2' was not compared; there is '1', '3'"):
        compare(two_layers(), snn, torch.ones(1, 1), steps=2)["2"]
    snn.get_submodule("1").step_mode = "m"
    with pytest.raises(ValueError, match="it has neurons in 's' and in 'm'"):
        compare(two_layers(), snn, torch.ones(1, 1), steps=2)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True])
def test_steps_are_counted(steps):
    snn = Converter(torch.ones(1, 1))(two_layers())
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, but got"):
        compare(two_layers(), snn, torch.ones(1, 1), steps)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, but got"):
        accuracy_over_time(snn, [], steps)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_accuracy_and_spikes_by_hand(step_mode):
    ann = nn.Sequential(linear([[1.0, 0.0], [0.0, 1.0]]), nn.ReLU())
    x, y = torch.tensor([[1.0, 0.75], [0.25, 0.5], [0.0, 0.125]]), torch.tensor([0, 1, 1])
    snn = Converter(x)(ann)  # the scale is 1
    functional.set_step_mode(snn, step_mode)
    # spikes by step: 1 1 1 1 and 1 1 0 1, for the second 0 1 0 0 and 1 0 1 0, for the third 0 0 0 1 from 1/8 + 1/2
    held = accuracy_over_time(snn, [(x[:2], y[:2]), (x[2:], y[2:])], steps=4, ann=ann)
    assert held.samples == 3
    assert held.ann == 1.0
    assert held.accuracy == pytest.approx((2 / 3, 1 / 3, 2 / 3, 1.0))
    assert held.spikes == pytest.approx((3 / 3, 6 / 3, 8 / 3, 11 / 3))
    for one in ((x, y), [x, y]):  # a tuple, or a list as a DataLoader makes it
        assert accuracy_over_time(snn, one, steps=4).accuracy == held.accuracy
    assert accuracy_over_time(snn, (x, y), steps=4).ann is None
    assert held.table().splitlines()[-2:] == ["4          100.00                3.7", "ANN        100.00"]
    with monitor.SpikeCounter(snn) as counter:
        accuracy_over_time(snn, (x, y), steps=4)
    assert counter.total.spikes == 11


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ([], ValueError, "got no samples"),
        ([torch.ones(2, 1)], TypeError, "a batch must be a tuple of tensors, the inputs and then the labels"),
        ([(torch.ones(2, 1), [0, 1])], TypeError, "a batch must be a tuple of tensors"),
        ((torch.ones(3, 1), torch.zeros(2)), ShapeError, r"\[N, C\] for labels \[N\], but got \[T=2, N=3, 2\]"),
    ],
)
def test_data_is_checked(data, error, text):
    snn = Converter(torch.ones(1, 1))(two_layers())
    with pytest.raises(error, match=text):
        accuracy_over_time(snn, data, steps=2)


def test_inputs_and_labels_that_are_two_arguments_are_told_of_without_their_values():
    snn = Converter(torch.ones(1, 1))(two_layers())
    x, y = torch.ones(3, 1), torch.zeros(3, dtype=torch.long)
    for given in ((x, y), (x, 2)):
        with pytest.raises(TypeError, match=r"in one tuple, accuracy_over_time\(snn, \(x, y\), steps=32\)"):
            accuracy_over_time(snn, *given)


def test_pictures():
    pytest.importorskip("matplotlib")
    ann, x = two_layers(), torch.tensor([[1.5], [-5.0]])
    snn = Converter(x)(ann)
    figure = compare(ann, snn, x, steps=4).plot()
    assert [axes.get_title(loc="left")[:8] for axes in figure.axes] == ["1: error", "3: error"]
    left, right = AccuracyOverTime((0.5, 1.0), (1.0, 3.0), samples=2, ann=1.0).plot().axes
    assert [list(line.get_ydata()) for line in left.lines[1:]] == [[50.0, 100.0]] * 2  # the line and its marks
    assert list(right.lines[0].get_ydata()) == [1.0, 3.0]
    assert AccuracyOverTime((0.5,), (1.0,), samples=2).plot().axes


class Reader(nn.Module):
    """A small residual network with everything that a conversion meets."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(nn.Linear(12 * 16, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 10))

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        return self.head(torch.flatten(self.pool(x), 1))


@pytest.fixture(scope="module")
def trained_reader():
    pytest.importorskip("sklearn")
    from spikescope.train import load_digits
    from spikescope.train.data import batches

    digits = load_digits()
    shuffle = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ann = Reader()
        optimizer = torch.optim.Adam(ann.parameters(), 3e-3)
        for _ in range(4):
            for x, y in batches(digits.x_train, digits.y_train, 64, shuffle):
                optimizer.zero_grad()
                F.cross_entropy(ann(x), y).backward()
                optimizer.step()
    return ann, digits


@pytest.mark.parametrize("mode", ["Max", "99.9%"])
def test_digits_within_one_per_cent(trained_reader, mode):
    ann, digits = trained_reader
    snn = Converter(digits.x_train.split(256), mode=mode, momentum=None)(ann)
    functional.set_step_mode(snn, "m")
    held = accuracy_over_time(snn, [(digits.x_test, digits.y_test)], steps=64, ann=ann)
    assert held.ann > 0.95
    assert held.accuracy[-1] >= held.ann - 0.01
    assert held.accuracy[0] < held.ann - 0.05  # time is needed
    layers = compare(ann, snn, digits.x_test[:40], steps=64)
    assert list(layers) == ["relu", "relu_1", "head.1"]
    assert max(layer.error for layer in layers.values()) < 0.1
