"""Normalisations: statistics over time, one-frame sequences, conversion, and values worked by hand."""

import copy
import pickle
import platform
from itertools import pairwise

import pytest
import torch
from torch import nn

from spikescope import layer
from spikescope.dynamics.norm import cpu
from spikescope.errors import ShapeError, StateError
from spikescope.layer.fold import is_expanded
from spikescope.toolchain import compiler

T, N, C = 5, 3, 4
SHAPES = {"1d": [(), (7,)], "2d": [(3, 5)], "3d": [(2, 3, 2)]}
CASES = [(kind, space) for kind, spaces in SHAPES.items() for space in spaces]


def pair(kind, **kwargs):
    """Ours with time, and PyTorch's, with the same random weights."""
    torch.manual_seed(11)
    ours = getattr(layer, f"BatchNorm{kind}")(C, step_mode="m", **kwargs).double()
    plain = getattr(nn, f"BatchNorm{kind}")(C, **kwargs).double()
    if ours.affine:
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def check_buffers(ours, plain):
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(getattr(ours, name), buffer, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("momentum", [0.3, None, 0.0])
@pytest.mark.parametrize(("kind", "space"), CASES)
def test_statistics_are_over_time_and_batch(kind, space, momentum, expanded):
    ours, plain = pair(kind, momentum=momentum)
    for call in range(3):
        x = torch.randn(N, C, *space, dtype=torch.float64) * (call + 2.5)
        x = x.expand(T, *x.shape) if expanded else torch.stack([x * (t + 0.5) for t in range(T)])
        a, b = x.detach()[0].clone().requires_grad_(), x.detach().clone().requires_grad_()
        y = ours(a.expand(x.shape) if expanded else a.unsqueeze(0).mul(torch.arange(T).view(-1, *[1] * a.ndim) * 2 + 1))
        want = plain(b.flatten(0, 1)).unflatten(0, (T, N))
        assert is_expanded(y) is expanded
        torch.testing.assert_close(y, want)
        check_buffers(ours, plain)
        weights = torch.randn_like(want)
        for module, out in ((ours, y), (plain, want)):
            module.zero_grad()
            (out * weights).sum().backward()
        factors = torch.ones(T) if expanded else torch.arange(T) * 2 + 1
        factors = factors.view(-1, *[1] * a.ndim).double()
        torch.testing.assert_close(a.grad, (b.grad * factors).sum(0))
        for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    ours.eval()
    plain.eval()
    x = x.detach()
    torch.testing.assert_close(ours(x), plain(x.flatten(0, 1)).unflatten(0, (T, N)))
    assert ours.num_batches_tracked == 3


def test_the_running_variance_of_a_repeated_frame_by_hand():
    norm = layer.BatchNorm1d(1, momentum=0.5, step_mode="m")
    frame = torch.tensor([[1.0], [4.0]])  # mean 2.5, sum of squares 4.5; three times: 13.5 / (6 - 1) = 2.7
    norm(frame.expand(3, 2, 1))
    torch.testing.assert_close(norm.running_mean, torch.tensor([1.25]))
    torch.testing.assert_close(norm.running_var, torch.tensor([0.5 * 1 + 0.5 * 2.7]))


def test_a_repeated_frame_without_running_statistics_or_with_one_value():
    ours, plain = pair("1d", track_running_stats=False)
    x = torch.randn(N, C, dtype=torch.float64).expand(T, N, C)
    torch.testing.assert_close(ours(x), plain(x.flatten(0, 1)).unflatten(0, (T, N)))
    ours, plain = pair("1d", affine=False)
    one = torch.randn(1, C, dtype=torch.float64).expand(T, 1, C)  # a single value: torch refuses one frame alone
    torch.testing.assert_close(ours(one), plain(one.flatten(0, 1)).unflatten(0, (T, 1)))
    check_buffers(ours, plain)


def test_two_forwards_before_a_backward_with_repeated_frames():
    ours, _ = pair("2d")
    x = torch.randn(N, C, 3, 3, dtype=torch.float64)
    loss = ours(x.expand(T, *x.shape)).pow(3).sum() + ours((x * 2).expand(T, *x.shape)).pow(3).sum()
    loss.backward()
    assert ours.weight.grad.abs().min() > 0


def test_single_steps_are_torch():
    ours, plain = pair("2d")
    ours.step_mode = "s"
    x = torch.randn(N, C, 3, 5, dtype=torch.float64)
    assert torch.equal(ours(x), plain(x))
    check_buffers(ours, plain)


@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
def test_state_dict_is_that_of_torch(kind):
    ours, plain = pair(kind)
    assert list(ours.state_dict()) == list(plain.state_dict())
    deep, flat = (
        nn.Sequential(nn.Sequential(ours), nn.Linear(2, 2)),
        nn.Sequential(nn.Sequential(plain), nn.Linear(2, 2)),
    )
    nn.init.normal_(plain.running_mean)
    assert set(deep.state_dict()) == set(flat.state_dict())
    deep.load_state_dict(flat.state_dict())
    assert torch.equal(ours.running_mean, plain.running_mean)
    flat.load_state_dict(deep.state_dict())
    deep.load_state_dict(deep.state_dict(), assign=True)
    missing = {k: v for k, v in flat.state_dict().items() if k != "0.0.weight"}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0.0.weight"'):
        deep.load_state_dict(missing)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "0.0.gain"'):
        deep.load_state_dict(flat.state_dict() | {"0.0.gain": torch.ones(1)})
    assert deep.load_state_dict(missing, strict=False).missing_keys == ["0.0.weight"]
    old = {k: v for k, v in flat.state_dict().items() if "tracked" not in k}
    deep.load_state_dict(old)  # written before there was num_batches_tracked
    by_parameter_name = {k.replace("0.0.", "0.0.norm."): v for k, v in flat.state_dict().items()}
    deep.load_state_dict(by_parameter_name)


@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
def test_is_the_class_of_torch_with_its_names_settings_and_line(kind):
    norm, plain = getattr(layer, f"BatchNorm{kind}")(C), getattr(nn, f"BatchNorm{kind}")(C)
    assert isinstance(norm, type(plain))
    assert [name for name, _ in norm.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in norm.named_buffers()] == [name for name, _ in plain.named_buffers()]
    assert list(norm.modules()) == [norm]
    assert repr(norm) == repr(plain)
    norm.step_mode = "m"
    assert repr(norm) == repr(plain)[:-1] + ", step_mode=m)"


def walk_and_fold(net):
    """The folding that many programs write for themselves: over pairs of neighbours, by isinstance."""
    names = list(net._modules)
    for before, name in pairwise(names):
        conv, bn = net._modules[before], net._modules[name]
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            gain = bn.weight / (bn.running_var + bn.eps).sqrt()
            conv.weight.data *= gain.view(-1, 1, 1, 1)
            conv.bias.data = (conv.bias - bn.running_mean) * gain + bn.bias
            net._modules[name] = nn.Identity()


def test_walks_that_replace_or_average_by_isinstance_and_name_find_it():
    net = nn.Sequential(layer.Conv2d(2, C, 3, step_mode="m"), pair("2d")[0].float()).eval()
    nn.init.normal_(net[1].running_mean)
    x = torch.randn(T, N, 2, 5, 5)
    want = net(x)
    average = {name: held.clone() for name, held in net.state_dict().items()}
    for name, held in net.named_parameters():
        average[name].mul_(0.5).add_(held.detach(), alpha=0.5)
    net.load_state_dict(average)
    with torch.no_grad():
        walk_and_fold(net)
    assert isinstance(net[1], nn.Identity)
    torch.testing.assert_close(net(x), want)


def test_a_pickle_of_when_the_module_of_torch_was_a_child_named_norm():
    child, made = nn.BatchNorm2d(C, eps=1e-3), layer.TemporalEffectiveBatchNorm2d(T, C)
    nn.init.normal_(child.running_mean)
    held = vars(nn.Module()) | {"_step_mode": "m", "_modules": {"norm": child}, "_parameters": {"scale": made.scale}}
    old = type(made).__new__(type(made))
    old.__setstate__(held)
    x = torch.randn(T, N, C, 3, 3)
    for norm in (old.eval(), copy.deepcopy(old), pickle.loads(pickle.dumps(old))):
        assert (norm.eps, norm.num_features, norm.step_mode, list(norm.modules())) == (1e-3, C, "m", [norm])
        assert torch.equal(norm(x), child.eval()(x.flatten(0, 1)).unflatten(0, (T, N)))
        assert set(norm.state_dict()) == {*child.state_dict(), "scale"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copied):
    ours, _ = pair("2d")
    other = copied(ours)
    x = torch.randn(T, N, C, 3, 3, dtype=torch.float64)
    assert torch.equal(ours(x), other(x))
    assert list(other.state_dict()) == list(ours.state_dict())
    other.load_state_dict(ours.state_dict())
    assert other.step_mode == "m"


@pytest.mark.parametrize("expanded", [False, True])
def test_survives_the_conversion_to_synchronised_statistics(expanded):
    ours, plain = pair("2d")
    net = nn.Sequential(layer.Conv2d(C, C, 1, step_mode="m").double(), ours)
    keys = list(net.state_dict())
    plain_net = nn.Sequential(copy.deepcopy(net[0]), plain)
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert isinstance(net[1], layer.SyncBatchNorm)
    assert isinstance(net[1], nn.BatchNorm2d)
    assert list(net.state_dict()) == keys
    x = torch.randn(C, C, 3, 3, dtype=torch.float64)  # N = C, where a wrong axis would go unseen
    x = x.expand(T, *x.shape) if expanded else torch.stack([x * (t + 1) for t in range(T)])
    want = plain(plain_net[0](x).flatten(0, 1)).unflatten(0, (T, C))
    y = net(x)
    torch.testing.assert_close(y, want)
    assert not is_expanded(y)  # one frame here is not the frame of the other processes
    check_buffers(net[1], plain)
    net[1].step_mode = "s"
    torch.testing.assert_close(net[1](x[0]), plain(x[0]))
    alone = nn.SyncBatchNorm.convert_sync_batchnorm(layer.BatchNorm1d(3, step_mode="m"))
    assert alone(torch.randn(T, N, 3)).shape == (T, N, 3)


def test_averaging_of_weights_finds_the_statistics():
    ours, plain = pair("1d")
    x = torch.randn(T, N, C, dtype=torch.float64)
    torch.optim.swa_utils.update_bn([x], ours)
    torch.optim.swa_utils.update_bn([x.flatten(0, 1)], plain)
    check_buffers(ours, plain)


def test_compile_and_vmap():
    ours, _ = pair("2d")
    x = torch.randn(N, C, 3, 3, dtype=torch.float64)
    for given in (torch.stack([x, x * 2]), x.expand(T, *x.shape)):
        eager, other = copy.deepcopy(ours), copy.deepcopy(ours)
        compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
        a, b = eager(given), compiled(given)
        torch.testing.assert_close(a, b)
        a.pow(2).sum().backward()
        b.pow(2).sum().backward()
        torch.testing.assert_close(eager.weight.grad, other.weight.grad)
        check_buffers(other, eager)
    ours.eval()
    many = torch.stack([x, x + 1])
    got = torch.func.vmap(lambda x: ours(x.expand(T, *x.shape)))(many)
    torch.testing.assert_close(got, torch.stack([ours(x.expand(T, *x.shape)) for x in many]))
    half = layer.BatchNorm2d(C, step_mode="m")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert half(x.bfloat16().expand(T, *x.shape)).dtype == torch.bfloat16


def test_an_ensemble_by_vmap_updates_every_running_variance():
    norm = layer.BatchNorm1d(C, step_mode="m")
    params = {k: torch.stack([v, v * 2]) for k, v in norm.named_parameters()}
    buffers = {k: torch.stack([v, v]) for k, v in norm.named_buffers()}
    x = torch.randn(2, N, C)

    def run(params, buffers, x):
        return torch.func.functional_call(norm, (params, buffers), (x.expand(T, N, C),))

    y = torch.func.vmap(run)(params, buffers, x)
    for i in range(2):
        alone = layer.BatchNorm1d(C, step_mode="m")
        nn.init.constant_(alone.weight, i + 1.0)
        torch.testing.assert_close(y[i], alone(x[i].expand(T, N, C).contiguous()))
        torch.testing.assert_close(buffers["running_var"][i], alone.running_var)


def test_nested_transforms_of_a_repeated_frame():
    linear = layer.Linear(3, 2, step_mode="m").double()
    norm = layer.BatchNorm1d(2, step_mode="m", track_running_stats=False).double()
    weights = torch.linspace(-1, 2, T, dtype=torch.float64).view(T, 1, 1)

    def loss(x, repeated):
        h = linear(x.expand(T, *x.shape))
        return ((norm(h if repeated else h.contiguous()) * weights) ** 3).sum()

    x = torch.randn(N, 3, dtype=torch.float64)
    for transform in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
        torch.testing.assert_close(transform(loss)(x, True), transform(loss)(x, False))


def test_double_backward_through_a_repeated_frame():
    norm = layer.BatchNorm1d(2, step_mode="m").double()

    def run(x):
        return norm(x.expand(3, *x.shape)).pow(3)

    norm.momentum = 0.0
    assert torch.autograd.gradgradcheck(run, torch.randn(4, 2, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("BatchNorm1d", (4, 3), r"takes \[T, N, C\] or \[T, N, C, L\], but got \[4, 3\]"),
        ("BatchNorm2d", (2, 4, 3, 3), r"takes \[T, N, C, H, W\], but got \[2, 4, 3, 3\] with 4 axes"),
        ("BatchNorm3d", (2, 4, 3, 3, 3), r"takes \[T, N, C, D, H, W\]"),
    ],
)
def test_wrong_ranks_in_words(name, shape, words):
    with pytest.raises(ShapeError, match=words):
        getattr(layer, name)(4, step_mode="m")(torch.zeros(shape))
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor"):
        getattr(layer, name)(4)(3.0)


@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
def test_threshold_dependent_normalisation_is_scaled_to_the_threshold(kind):
    norm = getattr(layer, f"ThresholdDependentBatchNorm{kind}")(0.7, 1.5, C)
    assert norm.step_mode == "m"
    plain = getattr(layer, f"BatchNorm{kind}")(C, step_mode="m")
    x = torch.randn(T, N, C, *SHAPES[kind][-1])
    torch.testing.assert_close(norm(x), plain(x) * 0.7 * 1.5)
    assert list(norm.state_dict()) == list(plain.state_dict())
    assert is_expanded(norm(x[0].expand(T, *x[0].shape)))
    assert "alpha=0.7, v_th=1.5" in repr(norm)
    with pytest.raises(ValueError, match="needs affine=True"):
        type(norm)(0.7, 1.5, C, affine=False)
    with pytest.raises(ValueError, match="step_mode must be one of 'm'"):
        norm.step_mode = "s"


@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
def test_temporal_effective_normalisation_weighs_every_step(kind):
    norm = getattr(layer, f"TemporalEffectiveBatchNorm{kind}")(T, C)
    plain = getattr(layer, f"BatchNorm{kind}")(C, step_mode="m")
    scale = torch.linspace(-1.0, 2.0, T)
    with torch.no_grad():
        norm.scale.copy_(scale)
    x = torch.randn(T, N, C, *SHAPES[kind][-1])
    for given in (x, x[0].expand(T, *x[0].shape)):
        torch.testing.assert_close(norm(given), plain(given) * scale.view(-1, *[1] * (x.ndim - 1)))
    assert set(norm.state_dict()) == {*plain.state_dict(), "scale"}
    norm.load_state_dict(pickle.loads(pickle.dumps(norm)).state_dict())
    with pytest.raises(ShapeError, match=rf"made for T={T} time steps, but got \[T={T - 1}, N={N}, {C}"):
        norm(x[1:])
    with pytest.raises(ValueError, match="T, the number of time steps, must be"):
        type(norm)(0, C)


@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
def test_normalisation_through_time_treats_each_step_by_itself(kind):
    made = getattr(layer, f"BatchNormThroughTime{kind}")
    x = torch.randn(T, N, C, *SHAPES[kind][-1])
    many, one = made(T, C, step_mode="m"), made(T, C)
    y = many(x)
    assert torch.equal(torch.stack([one(step) for step in x]), y)
    for t in range(T):
        plain = getattr(nn, f"BatchNorm{kind}")(C)
        assert torch.equal(y[t], plain(x[t]))
        assert torch.equal(many.bn_list[t].running_var, plain.running_var)
    with pytest.raises(StateError, match=rf"made for T={T} time steps and has done them all"):
        one(x[0])
    one.reset()
    assert torch.equal(one(x[0]), y[0])
    assert not [key for key in many.state_dict() if "bias" in key]
    with pytest.raises(ShapeError, match=r"step_mode='m' takes steps of \[N, C"):
        many(x[0, 0, 0])
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(many)
    converted.reset()
    torch.testing.assert_close(converted(x), y)
    with pytest.raises(ValueError, match="T, the number of time steps, must be"):
        made(True, C)


def test_neunorm_by_hand():
    norm = layer.NeuNorm(3, 1, 2, k=0.8)
    with torch.no_grad():
        norm.w.copy_(torch.tensor([[[1.0, 2.0]], [[0.5, -1.0]], [[0.0, 3.0]]]))
    s = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]]]])
    # (1 - k)/C^2 = 0.2/9; the sums over channels are 2 and 1
    x1 = torch.tensor([0.4, 0.2]) / 9
    torch.testing.assert_close(norm(s), s - norm.w * x1)
    torch.testing.assert_close(norm(s * 0.5), s * 0.5 - norm.w * (0.8 * x1 + 0.5 * x1))
    norm.detach()
    assert norm.x.shape == (1, 1, 1, 2)
    norm.reset()
    assert norm.x == 0.0


def test_neunorm_modes_precision_and_errors():
    norm = layer.NeuNorm(3, 4, 5, shared_across_channels=True)
    assert norm.w.shape == (1, 4, 5)
    x = (torch.rand(T, 2, 3, 4, 5) > 0.5).float()
    singles = torch.stack([norm(step) for step in x])
    norm.reset()
    norm.step_mode = "m"
    assert torch.equal(norm(x), singles)
    norm.reset()
    assert norm(x.half()).dtype == torch.float16
    assert norm.x.dtype == torch.float32
    with pytest.raises(ShapeError, match="cannot go on from its stored state"):
        norm(x[:, :1])
    with pytest.raises(ShapeError, match=r"takes steps of \[N, 3, 4, 5\], but got steps of \[2, 3, 4, 4\]"):
        norm(x[..., :4])
    with pytest.raises(ValueError, match=r"k must be at least 0 and at most 1, but got 1\.5"):
        layer.NeuNorm(3, 4, 5, k=1.5)
    assert "k=0.9" in repr(norm)
    norm = layer.NeuNorm(2, 1, 1, step_mode="m").double()
    s = torch.randn(3, 1, 2, 1, 1, dtype=torch.float64, requires_grad=True)

    def run(s, w):
        norm.reset()
        return torch.func.functional_call(norm, {"w": w}, (s,))

    assert torch.autograd.gradcheck(run, (s, norm.w))


def channels_last_of_one(x):
    """One sample with channels last, whose stride of N is that of an axis of one entry: what an addition leaves."""
    held = x.movedim(-3, -1).contiguous().movedim(-1, -3)
    return held.as_strided(held.shape, (*(held.shape[-3],) * (held.ndim - 3), *held.stride()[-3:]))


@pytest.mark.parametrize("graph", [False, True])
def test_one_large_sample_has_the_gradients_of_its_numbers_in_any_order_of_memory(graph):
    torch.manual_seed(0)
    norm, (x, slope) = layer.BatchNorm2d(64, step_mode="m"), torch.rand(2, 1, 1, 64, 32, 32)
    x.requires_grad_()
    grads = [
        torch.autograd.grad(copy.deepcopy(norm)(x), x, held, create_graph=graph)[0]
        for held in (slope, channels_last_of_one(slope))
    ]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("of_input", [False, True])
@pytest.mark.parametrize("of_gradient", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: layer.BatchNorm2d(2, step_mode="m"),
        lambda: layer.BatchNorm2d(2, track_running_stats=False, step_mode="m"),
        lambda: layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 2),
        lambda: layer.BatchNormThroughTime2d(1, 2, step_mode="m"),
        lambda: layer.TemporalEffectiveBatchNorm2d(1, 2, step_mode="m"),
    ],
    ids=["BatchNorm2d", "without statistics", "ThresholdDependent", "ThroughTime", "TemporalEffective"],
)
def test_one_sample_has_the_gradients_of_its_numbers_in_any_order_of_memory(make, training, of_input, of_gradient):
    torch.manual_seed(0)
    norm = make().train(training).double()
    x, slope = torch.rand(2, 1, 1, 2, 4, 4, dtype=torch.float64)

    def gradients(x, slope):
        own = copy.deepcopy(norm)
        x = x.detach().requires_grad_()
        own(x).backward(slope)
        return [x.grad, *(held.grad for held in own.parameters())]

    laid = [channels_last_of_one(each) if odd else each for each, odd in ((x, of_input), (slope, of_gradient))]
    for got, want in zip(gradients(*laid), gradients(x, slope), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.skipif(
    bool(compiler.trouble()) or platform.machine() != "x86_64", reason="no kernel, or of others not known"
)
def test_the_kernel_of_a_cpu_has_the_bits_of_this_pytorch():
    """Of every PyTorch that is supported, for planes of 64; else the tests of the kernel would leave themselves out."""
    assert cpu.gives_the_same(64)
