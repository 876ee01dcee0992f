"""`models.summary` against counts by hand, and what it must leave alone."""

import copy

import pytest
import torch
from torch import nn

from spikescope import functional, layer, models, neuron
from spikescope.display import size_of


def net():
    made = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.LIFNode(),
        layer.Flatten(),
        layer.Dropout(0.5),
        layer.Linear(4 * 8 * 8, 10),
        neuron.ParametricLIFNode(),
    )
    functional.set_step_mode(made, "m")
    return made


def test_rows_are_what_one_counts_by_hand():
    T, N = 3, 2
    made = models.summary(net(), torch.rand(T, N, 2, 8, 8))
    conv, norm, lif, flatten, _, linear, plif = made.layers
    assert (conv.shape, conv.parameters, conv.macs) == ((T, N, 4, 8, 8), 4 * 2 * 9, T * N * 4 * 64 * 2 * 9)
    assert (norm.parameters, norm.macs) == (8, 0)
    assert (lif.neurons, lif.shape) == (4 * 64, (T, N, 4, 8, 8))
    assert lif.kept == T * N * 4 * 64 * 4  # its input
    assert flatten.shape == (T, N, 256)
    assert (linear.parameters, linear.macs) == (2570, T * N * 256 * 10)
    assert (plif.parameters, plif.neurons) == (1, 10)
    assert made.parameters == sum(held.numel() for held in net().parameters())
    assert made.macs == conv.macs + linear.macs
    assert made.kept == sum(row["kept"] for row in made.rows())
    assert [row["name"] for row in made.rows()] == list("0123456")


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("kind", neuron.registry.values())
def test_the_neurons_of_a_layer_are_those_of_one_sample_also_where_the_output_has_no_time(kind, step_mode):
    if step_mode not in kind.supported_step_modes:
        pytest.skip(f"{kind.__name__} has no step_mode={step_mode!r}")
    x = torch.rand(4, 3, 2, 5) if step_mode == "m" else torch.rand(3, 2, 5)
    (row,) = models.summary(kind(step_mode=step_mode, **kind.example), x).layers
    assert row.neurons == 10


def test_the_table_has_a_line_a_layer_and_one_for_all():
    text = str(models.summary(net(), torch.rand(3, 2, 2, 8, 8)))
    assert len(text.splitlines()) == 9
    assert text.splitlines()[-1].startswith("in all")
    assert repr(models.summary(net(), torch.rand(3, 2, 2, 8, 8))) == text


def test_bytes_are_in_the_units_of_all_other_tables():
    found = models.summary(nn.Sequential(nn.Linear(2, 2000), neuron.LIFNode()), torch.rand(3, 2))
    assert found.kept > 20_000
    assert str(found).endswith(f"  {size_of(found.kept)}")


def test_products_between_layers_are_counted_where_they_happen():
    attention = layer.SpikingSelfAttention(8, 2)
    made = models.summary(attention, torch.rand(2, 3, 8, 5))
    (own,) = [row for row in made.layers if row.kind == "SpikingSelfAttention"]
    assert own.macs == 2 * 3 * 2 * 2 * (4 * 4 * 5)  # T, N, heads, two products


def test_a_layer_used_twice_counts_twice_and_has_its_weights_once():
    shared = layer.Linear(4, 4)
    made = models.summary(nn.Sequential(shared, nn.Sequential(shared)), torch.rand(1, 4))
    assert made.parameters == 20
    assert made.macs == 32


def test_the_network_stays_as_it_is():
    made = net()
    made(torch.rand(3, 2, 2, 8, 8))
    state, v = copy.deepcopy(made.state_dict()), made[2].v.clone()
    random = torch.get_rng_state()
    models.summary(made, torch.rand(3, 5, 2, 8, 8, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(made[2].v, v)
    assert all(torch.equal(held, state[key]) for key, held in made.state_dict().items())


def test_sizes_without_memory():
    with torch.device("meta"):
        large = models.create("sew_resnet152", step_mode="m")
    made = models.summary(large, torch.rand(4, 1, 3, 224, 224, device="meta"))
    assert made.parameters == 60_192_808
    assert made.kept is None
    assert made.macs / 4 == pytest.approx(11.5e9, rel=0.01)  # of ResNet-152 on one image
    assert not any("surrogate" in row.name for row in made.layers)


def test_what_is_no_network_or_no_tensor_is_refused():
    with pytest.raises(TypeError):
        models.summary(3, torch.rand(1))
    with pytest.raises(TypeError):
        models.summary(net(), [1.0])


class Called(nn.Module):
    """A function of the input and the module inside."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner = inner
        self.function = function

    def forward(self, x):
        return self.function(self.inner, x)


ROWS, INTO, OUT = 10, 6, 4  # two samples of five tokens or steps
ATTENTION = 4 * ROWS * INTO * INTO + 2 * ROWS * 5 * INTO
UNUSUAL = {
    "mv": (nn.Linear(INTO, OUT), lambda held, x: torch.mv(held.weight, x[0, 0]), INTO * OUT),
    "addmv": (nn.Linear(INTO, OUT), lambda held, x: torch.addmv(held.bias, held.weight, x[0, 0]), INTO * OUT),
    "dot": (nn.Linear(INTO, 1), lambda held, x: torch.dot(held.weight[0], x[0, 0]), INTO),
    "vdot": (nn.Linear(INTO, 1), lambda held, x: torch.vdot(held.weight[0], x[0, 0]), INTO),
    "addbmm": (
        nn.Linear(INTO, OUT),
        lambda held, x: torch.addbmm(held.bias, x, held.weight.t().expand(2, -1, -1)),
        ROWS * INTO * OUT,
    ),
    "bilinear": (nn.Bilinear(INTO, INTO, OUT), lambda held, x: held(x, x), ROWS * INTO * INTO * OUT),
    "attention": (
        nn.MultiheadAttention(INTO, 2, batch_first=True),
        lambda held, x: held(x, x, x, need_weights=False)[0],
        ATTENTION,
    ),
    "encoder": (
        nn.TransformerEncoderLayer(INTO, 2, OUT, batch_first=True),
        lambda held, x: held(x),
        ATTENTION + 2 * ROWS * INTO * OUT,
    ),
    "LSTM": (nn.LSTM(INTO, OUT), lambda held, x: held(x)[0], 4 * ROWS * OUT * (INTO + OUT)),
    "GRU": (nn.GRU(INTO, OUT), lambda held, x: held(x)[0], 3 * ROWS * OUT * (INTO + OUT)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", UNUSUAL)
def test_the_products_of_every_operation_are_counted(name, training):
    inner, function, wanted = UNUSUAL[name]
    assert models.summary(Called(inner, function).train(training), torch.rand(2, 5, INTO)).macs == wanted


def test_inference_mode_changes_nothing_also_where_all_was_made_in_it():
    def told():
        net = nn.Sequential(layer.Linear(4, 3, step_mode="m"), neuron.LIFNode(step_mode="m"), layer.Linear(3, 2))
        functional.set_step_mode(net, "m")
        return models.summary(net, torch.rand(2, 4).expand(5, 2, 4)).rows()

    net, x = nn.Sequential(layer.Linear(4, 3), neuron.LIFNode()), torch.rand(2, 4)
    outside = told(), models.summary(net, x).rows()
    with torch.inference_mode():
        assert (told(), models.summary(net, x).rows()) == outside
    assert outside[0][0]["macs"] == 2 * 4 * 3  # of the one frame that is repeated
    assert outside[1][1]["kept"] > 0
