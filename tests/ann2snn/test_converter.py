"""Converted networks against the networks that they come from."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikescope import ann2snn, functional, layer
from spikescope.ann2snn import Converter, ScaledNeuron, SpikingMaxPool


class Written(nn.Module):
    """A network whose forward is a function of `self` and `x`."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.written = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.written(self, x)


def conv(inputs=2, outputs=4, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class Block(nn.Module):
    """A residual block that uses one ReLU twice, in place, as torchvision's does."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def change_and_read(change):
    def forward(self, x):
        y = self.a(x)
        change(self, y)
        return self.b(y)

    return forward


def read_before_and_after(self, x):
    y = self.a(x)
    before = self.b(y)
    return self.b(F.relu_(y)) + before + self.b(y)


def activated(activation):
    return lambda: Written(lambda self, x: activation(self.conv(x)).mean((2, 3)), conv=conv())


def after_relu(function, **parts):
    return lambda: Written(lambda self, x: function(self, F.relu(self.conv(x))), conv=conv(), **copy.deepcopy(parts))


ACTIVATIONS = {
    "F.relu": F.relu,
    "F.relu_": F.relu_,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp_(0, 1.5)": lambda x: x.clamp_(0, 1.5),
    "torch.clip": lambda x: torch.clip(x, 0.0, 0.4),
    "clamp_min": lambda x: x.clamp_min(0),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 0.5),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU6": nn.ReLU6(),
    "nn.Hardtanh": nn.Hardtanh(0, 0.5),
}
LAYERS = {
    "max pool": nn.MaxPool2d(3, 2, 1),
    "adaptive max pool": nn.AdaptiveMaxPool2d(2),
    "average pool": nn.AvgPool2d(2),
    "adaptive average pool": nn.AdaptiveAvgPool2d(3),
    "transposed": nn.ConvTranspose2d(4, 2, 2, 2),
    "upsample": nn.Upsample(scale_factor=2),
    "bilinear": nn.UpsamplingBilinear2d(scale_factor=2),
    "shuffle": nn.PixelShuffle(2),
    "padding": nn.ReflectionPad2d(1),
    "norm without a layer before it": nn.Sequential(nn.Identity(), nn.BatchNorm2d(4)),
    "dropout": nn.Dropout(0.5),
    "dropout of channels": nn.Dropout2d(0.5),
    "unflatten": nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, -1))),
    "linear": nn.Sequential(nn.Flatten(1), nn.Linear(4 * 36, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)),
    "layers of this library": nn.Sequential(layer.Conv2d(4, 3, 3, bias=False), layer.BatchNorm2d(3), nn.ReLU()),
}
FUNCTIONS = {
    "flatten": lambda self, x: torch.flatten(x, 1),
    "view": lambda self, x: x.view(x.size(0), -1),
    "view with shape": lambda self, x: x.view(x.shape[0], 2, -1),
    "reshape": lambda self, x: x.reshape(-1, 4 * 36),
    "mean": lambda self, x: x.mean([2, 3]),
    "mean and mean": lambda self, x: x.mean(dim=-1).mean(dim=2),
    "sum": lambda self, x: torch.sum(x, dim=1, keepdim=True),
    "add": lambda self, x: x + 0.5 * x,
    "add in place": lambda self, x: x.add_(1.0),
    "sub and neg": lambda self, x: 1 - x + (-x),
    "scale": lambda self, x: x.mul(2.0) / 4,
    "cat": lambda self, x: torch.cat([x, x * 3], dim=1),
    "stack": lambda self, x: torch.stack((x, x), 1),
    "chunk": lambda self, x: x.chunk(2, 1)[1],
    "index": lambda self, x: x[:, 1:3, ::2],
    "permute": lambda self, x: x.permute(0, 2, 3, 1).contiguous(),
    "transpose": lambda self, x: x.transpose(1, 2),
    "squeeze": lambda self, x: x.unsqueeze(1).squeeze(1),
    "unpacked shape": lambda self, x: (lambda b, c, h, w: x.view(b, c * h, w))(*(x.size(i) for i in range(4))),
    "F.max_pool2d": lambda self, x: F.max_pool2d(x, 2),
    "F.max_pool2d with options": lambda self, x: F.max_pool2d(x, kernel_size=3, stride=2, padding=1),
    "torch.max_pool2d": lambda self, x: torch.max_pool2d(x, 2, 2),
    "F.adaptive_max_pool2d": lambda self, x: F.adaptive_max_pool2d(x, (2, 1)),
    "F.avg_pool2d": lambda self, x: F.avg_pool2d(x, x.size(2)),
    "F.adaptive_avg_pool2d": lambda self, x: F.adaptive_avg_pool2d(x, 2),
    "F.interpolate": lambda self, x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "F.pad": lambda self, x: F.pad(x, (1, 0, 2, 1)),
    "F.dropout": lambda self, x: F.dropout(x, 0.5, self.training),
    "F.conv2d": lambda self, x: F.conv2d(x, self.conv.weight.transpose(0, 1)),
    "constants": lambda self, x: x + torch.ones(4, 1, 1) - self.conv.bias.view(1, -1, 1, 1),
}
NETWORKS = {
    **{f"activation: {name}": activated(held) for name, held in ACTIVATIONS.items() if not isinstance(held, nn.Module)},
    **{
        f"activation: {name}": (lambda held=held: nn.Sequential(conv(), held, nn.Flatten()))
        for name, held in ACTIVATIONS.items()
        if isinstance(held, nn.Module)
    },
    **{f"layer: {name}": after_relu(lambda self, x: self.part(x), part=part) for name, part in LAYERS.items()},
    **{f"function: {name}": after_relu(function) for name, function in FUNCTIONS.items()},
    "residual": lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), Block(4), Block(4), nn.MaxPool2d(2)),
    "pool before the ReLU": lambda: nn.Sequential(conv(), nn.MaxPool2d(2), nn.ReLU(), conv(4, 3)),
    "pool of the input": lambda: nn.Sequential(nn.MaxPool2d(2), conv(), nn.ReLU()),
    "one block called twice": lambda: nn.Sequential(conv(), *[Block(4)] * 2),
    "in place, without its output": lambda: Written(
        change_and_read(lambda self, y: F.relu_(y)), a=conv(), b=conv(4, 3)
    ),
    "a module in place, without its output": lambda: Written(
        change_and_read(lambda self, y: self.relu(y)), a=conv(), b=conv(4, 3), relu=nn.ReLU(inplace=True)
    ),
    "in place by its place": lambda: Written(change_and_read(lambda self, y: F.relu(y, True)), a=conv(), b=conv(4, 3)),
    "read before and after": lambda: Written(read_before_and_after, a=conv(), b=conv(4, 3)),
    "sum in place, without its output": lambda: Written(
        change_and_read(lambda self, y: F.relu_(y.add_(0.5))), a=conv(), b=conv(4, 3)
    ),
    "norm without weights": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU()
    ),
    "transposed in groups": lambda: nn.Sequential(
        nn.ConvTranspose2d(2, 4, 3, 2, output_padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU()
    ),
    "norm over tokens": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(36, 2), nn.BatchNorm1d(2), nn.ReLU()),
    "norm over other tokens": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(36, 5), nn.BatchNorm1d(2), nn.ReLU()),
}


def trained(make, seed=0):
    """A network whose norms have statistics that matter."""
    torch.manual_seed(seed)
    net = make()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return net


def images(samples=3):
    torch.manual_seed(3)
    return torch.rand(samples, 2, 6, 6)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_mean_over_time_goes_to_the_network(name):
    ann = trained(NETWORKS[name])
    before = copy.deepcopy(ann.state_dict())
    modes = [module.training for module in ann.modules()]
    x = images()
    snn = Converter(x)(ann)
    assert [module.training for module in ann.modules()] == modes
    assert all(torch.equal(held, before[key]) for key, held in ann.state_dict().items())
    assert not any(isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardtanh)) for module in snn.modules())
    want, T = ann.eval()(x), 400
    single = torch.stack([snn(x) for _ in range(9)])
    functional.reset_net(snn)
    functional.set_step_mode(snn, "m")
    out = snn(x.expand(T, *x.shape))
    torch.testing.assert_close(out[:9], single, rtol=1e-4, atol=1e-4)
    assert (out.mean(0) - want).abs().max() < 0.02 * want.abs().max()
    other = images(2)  # a batch of another size, which no number in the graph may forbid
    functional.reset_net(snn)
    assert snn(torch.stack([other] * 5)).shape == (5, *ann(other).shape)


def by_hand():
    """ReLU(2x) and ReLU(-x) summed with the weights 1 and 0.5."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    nn.init.zeros_(net[0].weight).add_(torch.tensor([[2.0], [-1.0]]))
    nn.init.zeros_(net[2].weight).add_(torch.tensor([[1.0, 0.5]]))
    return net


@torch.no_grad()
def test_a_network_by_hand():
    snn = Converter(torch.tensor([[2.0]]))(by_hand())
    assert snn.get_submodule("1").scale == 4.0
    steps = [snn(torch.tensor([[0.75]])).item() for _ in range(8)]
    # 1.5 / 4 a step from a half: H = .875, 1.25, .625, 1, .375, .75, 1.125, .5
    assert steps == [0.0, 4.0, 0.0, 4.0, 0.0, 0.0, 4.0, 0.0]
    assert sum(steps) / 8 == 1.5
    functional.reset_net(snn)
    assert sum(snn(torch.tensor([[-4.0]])).item() for _ in range(4)) == 0.5 * 4 * 4  # ReLU(4) at the scale 4


@torch.no_grad()
def test_modes_set_the_scale():
    data = torch.linspace(0, 2, 9).view(9, 1)  # the ReLU gives 0 to 4 in steps of a half, and nine zeros
    scales = {mode: Converter(data, mode=mode)(by_hand()).get_submodule("1").scale.item() for mode in ("max", 0.5)}
    assert scales == {"max": 4.0, 0.5: 2.0}
    share = Converter(data, mode="75%")(by_hand()).get_submodule("1").scale.item()
    assert share == pytest.approx(sorted([*(torch.linspace(0, 4, 9).tolist()), *[0.0] * 9])[12] * 0.25 + 2.0 * 0.75)
    batches = [data[:5], (data[5:], torch.zeros(4)), [data[:1]]]  # with labels and without: maxima 2, 4 and 0
    mean = Converter(batches, momentum=0.5)(by_hand()).get_submodule("1").scale.item()
    assert mean == pytest.approx(0.5 * (0.5 * 2 + 0.5 * 4))
    assert Converter(batches, momentum=None)(by_hand()).get_submodule("1").scale.item() == 4.0


def test_norms_are_fused_where_they_can_be():
    ann = trained(NETWORKS["residual"])
    x = images()
    fused, kept = Converter(x)(ann), Converter(x, fuse_flag=False)(ann)
    assert sum(isinstance(module, layer.BatchNorm2d) for module in fused.modules()) == 0
    assert sum(isinstance(module, layer.BatchNorm2d) for module in kept.modules()) == 5
    assert fused.get_submodule("3.conv1").bias is not None
    assert kept.get_submodule("3.conv1").bias is None
    for name, module in kept.named_modules():
        if isinstance(module, ScaledNeuron):
            torch.testing.assert_close(fused.get_submodule(name).scale, module.scale, rtol=1e-5, atol=0)


def test_a_layer_that_others_use_too_keeps_its_norm():
    two = Written(lambda self, x: F.relu(self.bn(y := self.conv(x)) + y), conv=conv(), bn=nn.BatchNorm2d(4))
    snn = Converter(images())(trained(lambda: two))
    assert isinstance(snn.bn, layer.BatchNorm2d)
    again = Written(
        lambda self, x: F.relu(self.conv(F.relu(self.bn(self.conv(x))))), conv=conv(2, 2), bn=nn.BatchNorm2d(2)
    )
    assert isinstance(Converter(images())(trained(lambda: again)).bn, layer.BatchNorm2d)


def test_a_norm_is_taken_into_a_linear_layer_of_vectors_alone():
    for shape, kept in (((3, 4), False), ((3, 5, 4), True)):
        net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU())
        snn = Converter(torch.randn(shape))(net)
        assert any(isinstance(module, layer.BatchNorm1d) for module in snn.modules()) == kept


def test_names_stay_and_stand_beside_their_callers():
    snn = Converter(images())(trained(NETWORKS["residual"]))
    neurons = [name for name, module in snn.named_modules() if isinstance(module, ScaledNeuron)]
    assert neurons == ["2", "3.relu", "3.relu_1", "4.relu", "4.relu_1"]
    assert isinstance(snn.get_submodule("3.add"), ann2snn.Folded)
    assert isinstance(snn.get_submodule("3.conv1"), layer.Conv2d)
    assert type(snn.get_submodule("5")) is SpikingMaxPool
    assert "(3): Module(\n    (conv1): Conv2d(4, 4, kernel_size=(3, 3)" in repr(snn)
    assert "(2): ScaledNeuron(\n    (neuron): IFNode(\n" in repr(snn)
    assert type(snn).__name__ == "Sequential"
    assert not any(module.training for module in snn.modules())


def test_modules_are_in_the_order_of_their_calls():
    ann = Written(
        lambda self, x: self.head(F.dropout(F.relu(self.conv(x)), 0.5, self.training).mean((2, 3))),
        head=nn.Linear(4, 3),
        conv=conv(),
    )
    children = [name for name, _ in Converter(images())(ann).named_children()]
    assert children == ["conv", "relu", "mean", "head"]  # a dropout that drops nothing is gone


def test_a_part_with_the_name_of_a_method():
    ann = Written(lambda self, x: F.relu(self.conv(x).float()), conv=conv())
    snn = Converter(images())(ann)
    assert snn.float_1 is not None  # float() is a method of every module
    assert snn.double()(images().double()).dtype == torch.float32


@torch.no_grad()
def test_copies_pickles_state_dict_and_compiled_code():
    snn = Converter(images())(trained(NETWORKS["residual"]))
    functional.set_step_mode(snn, "m")
    x = images().expand(7, 3, 2, 6, 6)
    want = snn(x)
    functional.reset_net(snn)
    for other in (copy.deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert torch.equal(other(x), want)
    other = Converter(2 * images())(trained(NETWORKS["residual"], seed=1))
    other.load_state_dict(snn.state_dict())
    functional.set_step_mode(other, "m")
    assert torch.equal(other(x), want)
    compiled = torch.compile(snn, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), want)


def test_two_inputs_and_an_option():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, a, b, gain=2.0):
            return F.relu(self.left(a) + self.right(b)) * gain

    torch.manual_seed(0)
    ann, a, b = Two(), torch.rand(5, 3), torch.rand(5, 4)
    snn = Converter([(a, b, torch.zeros(5))])(ann)
    mean = sum(snn(a, b) for _ in range(200)) / 200
    torch.testing.assert_close(mean, ann(a, b), rtol=0, atol=0.02)
    with pytest.raises(ValueError, match="takes 2 inputs, but a batch has 1 tensors"):
        Converter([a])(ann)


def test_half_precision():
    snn = Converter(images())(trained(NETWORKS["residual"])).to(torch.bfloat16)
    assert snn(images().bfloat16()).dtype == torch.bfloat16


def test_a_converted_network_can_learn():
    snn = Converter(images())(trained(NETWORKS["residual"]))
    functional.set_step_mode(snn, "m")
    snn(images().expand(3, 3, 2, 6, 6)).square().mean().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in snn.parameters())


def test_bars_are_for_terminals(monkeypatch):
    rich = pytest.importorskip("rich.console")
    monkeypatch.setattr(rich.Console, "is_terminal", True)
    assert Converter([images(), images()])(nn.Sequential(conv(), nn.ReLU())) is not None
