"""Every layer of the table against PyTorch's own on each frame."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

from spikescope import layer
from spikescope.errors import ShapeError
from spikescope.layer import registry, stateless
from spikescope.layer.fold import apply_folded, fold_time, is_expanded, loop_over_time, unfold_time

SIZES = {"N": 3, "C": 4, "F": 4, "L": 7, "D": 5, "H": 7, "W": 5}
T = 5
NAMES = sorted(registry)
PLAIN = [name for name in NAMES if "Unpool" not in name]


def step_shape(made):
    sizes = [SIZES[axis] for axis in made.axes if axis[0] not in "(*"]
    return [size - size % 2 for size in sizes] if "Unpool" in made.__name__ else sizes  # a pool of 2 loses the odd one


def build(name, step_mode="m", **kwargs):
    torch.manual_seed(7)
    made = registry[name]
    return made(*made.example, step_mode=step_mode, **kwargs)


def inputs(name, frames=T, dtype=torch.float32):
    """A sequence for the layer: for an unpool also the indices of the pool before it."""
    torch.manual_seed(3)
    x = torch.randn(frames, *step_shape(registry[name]), dtype=dtype)
    if "Unpool" not in name:
        return (x,)
    return registry[name.replace("Unpool", "Pool")](2, return_indices=True, step_mode="m")(x)


def torch_layer(module):
    """The same layer as a module of PyTorch (or of the plain class that the table names)."""
    made = type(module)
    plain = made.torch_class(*made.example)
    plain.load_state_dict(module.state_dict())
    return plain


@pytest.mark.parametrize("name", NAMES)
def test_is_the_class_of_torch_with_its_state_dict(name):
    module = build(name)
    assert isinstance(module, registry[name].torch_class)
    assert list(module.state_dict()) == list(registry[name].torch_class(*registry[name].example).state_dict())
    assert getattr(layer, name) is registry[name]
    if hasattr(nn, name):
        assert registry[name].torch_class is getattr(nn, name)
    line = repr(torch_layer(module)).removeprefix("_")
    assert repr(build(name, "s")) == line
    shown = line if "Linear" in name else line[:-1] + ("" if line.endswith("()") else ", ") + "step_mode=m)"
    assert repr(module) == shown
    assert "step_mode" in inspect.signature(registry[name]).parameters
    assert "[T, " in registry[name].__doc__


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_is_the_frames_of_torch(name):
    given = inputs(name)
    module, plain, single = build(name), torch_layer(build(name)), build(name, "s")
    frames = [plain(*(x[t] for x in given)) for t in range(T)]
    torch.testing.assert_close(module(*given), torch.stack(frames))
    for t in range(T):
        assert torch.equal(single(*(x[t] for x in given)), frames[t])


@pytest.mark.parametrize("name", NAMES)
def test_copies_give_the_same(name):
    given, module = inputs(name), build(name)
    y = module(*given)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(other) is type(module)
        assert other.step_mode == "m"
        assert torch.equal(other(*given), y)


@pytest.mark.parametrize("name", NAMES)
def test_an_expanded_sequence_is_computed_once(name):
    frames = [x[0] for x in inputs(name, dtype=torch.float64)]
    module, gradients, outputs = build(name).double(), [], []
    weights = torch.linspace(-1.0, 2.0, T, dtype=torch.float64)
    for expanded in (True, False):
        x = frames[0].clone().requires_grad_()
        given = [leaf.expand(T, *leaf.shape) for leaf in (x, *frames[1:])]
        y = module(*(given if expanded else [g.contiguous() for g in given]))
        assert is_expanded(y) is expanded
        (y * weights.view(-1, *[1] * (y.ndim - 1))).pow(2).sum().backward()
        outputs.append(y.detach())
        gradients.append([x.grad, *(p.grad.clone() for p in module.parameters())])
        module.zero_grad()
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_rank_is_refused_in_words(name):
    module = build(name)
    (x, *rest) = inputs(name)
    least = len(step_shape(registry[name])) - registry[name].one_sample
    few = torch.zeros([2] * least)
    with pytest.raises(
        ShapeError, match=rf"{name} in step_mode='m' takes \[T, N, .*with {least} axes. Add the .*x.unsqueeze\(0\)"
    ):
        module(few, *rest)
    module.step_mode = "s"
    with pytest.raises(ShapeError, match=r"takes \[N, .*but got \[(2|\])") as refused:
        module(torch.zeros([2] * (least - 1)), *rest)
    assert "unsqueeze" not in str(refused.value)  # time is not what is missing
    if not any(axis[0] in "(*" for axis in registry[name].axes):
        with pytest.raises(ValueError, match="set_step_mode"):
            module(x, *rest)


def takes_rank(module, x):
    try:
        module(x)
    except (RuntimeError, ValueError, IndexError, NotImplementedError):
        return False
    return True


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", [name for name in PLAIN if hasattr(nn, name)])
def test_what_torch_takes_is_taken_and_every_other_rank_is_refused_in_words(name, step_mode):
    check_ranks(build(name, step_mode), torch_layer(build(name)))


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "linear", "bilinear", "bicubic", "trilinear"])
def test_the_mode_of_an_upsampling_says_how_many_axes_it_takes(mode, step_mode):
    made = layer.Upsample(scale_factor=2, mode=mode, step_mode=step_mode)
    for module in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        check_ranks(module, nn.Upsample(scale_factor=2, mode=mode))


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("dims", [(1, -1), (2, -1), (3, 3), (1, 2), (-2, -1), (-4, -2)])
def test_the_axes_of_a_flattening_say_how_many_it_takes_at_least(dims, step_mode):
    check_ranks(layer.Flatten(*dims, step_mode=step_mode), nn.Flatten(*dims))


def check_ranks(module, plain):
    taken, time = 0, [2] if module.step_mode == "m" else []
    for rank in range(9):
        x = torch.rand([4] * rank)
        if takes_rank(plain, x):
            taken += 1
            assert module(torch.stack([x, x]) if time else x).ndim == plain(x).ndim + len(time)
            continue
        with pytest.raises(
            ShapeError, match=rf"{type(module).__name__} .*takes \[.*, but got \[.*with {len(time) + rank} axes"
        ):
            module(x.expand((*time, *x.shape)))
    assert taken


@pytest.mark.parametrize("name", NAMES)
def test_one_sample_is_taken_where_torch_takes_it(name):
    module = build(name)
    alone = [x[:, 0] for x in inputs(name)]
    plain = torch_layer(module)
    assert registry[name].one_sample == takes_one_sample(plain, [x[0] for x in alone])
    if not registry[name].one_sample:
        return
    frames = torch.stack([plain(*(x[t] for x in alone)) for t in range(T)])
    torch.testing.assert_close(module(*alone), frames)
    repeated = [x[0].expand_as(x) for x in alone]
    y = module(*repeated)
    assert torch.equal(y, y[:1].expand(y.shape))
    torch.testing.assert_close(y, frames[0].expand_as(frames))
    module.step_mode = "s"
    assert torch.equal(module(*(x[0] for x in alone)), plain(*(x[0] for x in alone)))


def takes_one_sample(plain, sample):
    """Whether PyTorch gives for one sample what it gives for a batch of it alone."""
    try:
        return torch.allclose(plain(*sample), plain(*(x.unsqueeze(0) for x in sample)).squeeze(0), atol=1e-6)
    except (RuntimeError, ValueError, IndexError, NotImplementedError):
        return False


def test_gradients_of_one_sample_that_is_repeated_are_those_of_each_step():
    module = layer.Linear(4, 3, step_mode="m")
    for watched in (True, False):
        x = torch.randn(1, 4).expand(T, 4).detach().requires_grad_()
        given = x if watched else x * 1
        module(given).mul(torch.arange(T).view(T, 1)).sum().backward()
        torch.testing.assert_close(x.grad, torch.arange(T).view(T, 1) * module.weight.detach().sum(0))


@pytest.mark.parametrize("name", NAMES)
def test_the_step_mode_may_follow_the_arguments_of_torch(name):
    made = registry[name]
    names = list(inspect.signature(made).parameters)
    place = names.index("step_mode")
    assert names[place + 1 :] in (
        [],
        ["device", "dtype"],
        ["device", "dtype", "bias"],
        ["gain", "eps", "device", "dtype"],
    )
    defaults = [held.default for held in list(inspect.signature(made).parameters.values())[len(made.example) : place]]
    for mode in ("s", "m"):
        assert made(*made.example, *defaults, mode).step_mode == mode
    for short in range(len(made.example), place):
        given = (*made.example, *defaults)[:short]
        with pytest.raises(
            TypeError, match=rf"got 'm' as argument {short + 1}, which is {names[short]}.*step_mode='m'"
        ):
            made(*given, "m")


def test_the_arguments_behind_the_step_mode_keep_their_places():
    assert layer.Linear(2, 3, True, "cpu", torch.float64).weight.dtype == torch.float64  # as in PyTorch
    assert layer.Linear(2, 3, True, "m", "cpu", torch.float64).weight.dtype == torch.float64
    made = layer.WSConv2d(1, 2, 3, 1, 0, 1, 1, True, "zeros", "m", False, 0.5)
    assert (made.step_mode, made.gain, made.eps) == ("m", None, 0.5)


@pytest.mark.parametrize("name", PLAIN)
def test_an_empty_batch_and_no_steps(name):
    module = build(name)
    (x,) = inputs(name)
    want = module(x).shape
    assert module(x[:, :0]).shape == (T, 0, *want[2:])
    assert module(x[:0]).shape == (0, *want[1:])


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(name, dtype):
    module = build(name)
    (x,) = inputs(name)
    try:
        torch_layer(module).to(dtype)(x[0].to(dtype))
    except RuntimeError as error:
        assert "not implemented" in str(error)  # noqa: PT017  # PyTorch has no such kernel on the CPU
        return
    y = module.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), build(name)(x), atol=0.06, rtol=0.06)


@pytest.mark.parametrize("name", PLAIN)
def test_sequences_that_are_not_contiguous(name):
    module = build(name)
    (x,) = inputs(name)
    batch_first = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not batch_first.is_contiguous()
    torch.testing.assert_close(module(batch_first), module(x))


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "MaxPool2d", "GroupNorm", "WSConv2d", "Flatten"])
def test_compile_and_vmap(name):
    module = build(name)
    (x,) = inputs(name)
    frame = x[0].expand(T, *x[0].shape)
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    for given in (x, frame):
        torch.testing.assert_close(compiled(given), module(given))
    assert torch.equal(compiled(frame)[0], compiled(frame)[-1])
    batched = torch.stack([x[0], x[1] + 1])
    want = torch.stack([module(x0.expand(T, *x0.shape)) for x0 in batched])
    torch.testing.assert_close(torch.func.vmap(lambda x0: module(x0.expand(T, *x0.shape)))(batched), want)
    torch.testing.assert_close(
        torch.func.vmap(module)(torch.stack([x, x * 2])), torch.stack([module(x), module(x * 2)])
    )


def test_a_gradient_per_sample_by_torch_func():
    module = layer.Conv2d(2, 3, 3, step_mode="m")
    params = dict(module.named_parameters())

    def loss(params, x):
        return torch.func.functional_call(module, params, (x.expand(T, 1, *x.shape),)).pow(2).sum()

    x = torch.randn(3, 2, 5, 4)
    got = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, x)["weight"]
    for i in range(3):
        torch.testing.assert_close(got[i], torch.func.grad(loss)(params, x[i])["weight"])


@pytest.mark.parametrize("watch", ["leaf", "retain", "tensor hook", "module hook"])
def test_whoever_watches_the_gradient_gets_that_of_every_step(watch):
    module, seen = layer.Linear(3, 2, step_mode="m"), []
    base = torch.randn(2, 3, requires_grad=watch != "leaf")
    x = base.unsqueeze(0).expand(4, 2, 3)
    if watch == "leaf":
        x.requires_grad_()
    elif watch == "retain":
        x.retain_grad()
    elif watch == "tensor hook":
        x.register_hook(seen.append)
    else:
        module.register_full_backward_hook(lambda m, grad_input, grad_output: seen.append(grad_input[0]))
    weights = torch.tensor([1.0, -2.0, 3.5, 0.25]).view(4, 1, 1)
    (module(x) * weights).sum().backward()
    got = seen[0] if seen else x.grad
    torch.testing.assert_close(got, (weights * module.weight.sum(0)).expand(4, 2, 3))


def test_flatten_counts_its_axes_without_time():
    x = torch.randn(5, 3, 4, 2, 2)
    assert layer.Flatten(step_mode="m")(x).shape == (5, 3, 16)
    assert layer.Flatten(2, step_mode="m")(x).shape == (5, 3, 4, 4)
    assert layer.Flatten(0, step_mode="m")(x).shape == (5, 48)


def test_pools_with_indices_undo():
    x = torch.randn(5, 3, 4, 6, 4)
    pooled, indices = layer.MaxPool2d(2, return_indices=True, step_mode="m")(x)
    back = layer.MaxUnpool2d(2, step_mode="m")(pooled, indices, output_size=(6, 4))
    assert back.shape == x.shape
    assert torch.equal(back[back != 0], x[back != 0])
    assert (back != 0).sum() == pooled.numel()


def test_keyword_inputs_and_transposed_convolution_with_an_output_size():
    module = layer.ConvTranspose1d(4, 3, 3, stride=2, step_mode="m")
    x = torch.randn(5, 3, 4, 6)
    assert module(input=x, output_size=[14]).shape == (5, 3, 3, 14)


def test_channels_last_stays():
    module = layer.Conv2d(4, 8, 3, step_mode="m").to(memory_format=torch.channels_last)
    frame = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    real = torch.stack([frame] * 3).flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2))
    for x in (real, frame.expand(3, *frame.shape)):
        assert module(x)[0].is_contiguous(memory_format=torch.channels_last)


def test_autocast():
    module = layer.Conv2d(4, 3, 3, step_mode="m")
    x = torch.randn(2, 4, 6, 6).expand(5, 2, 4, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    assert is_expanded(y)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="Linear: step_mode must be one of 's', 'm', but got 'multi'"):
        layer.Linear(2, 3, step_mode="multi")
    with pytest.raises(TypeError, match=r"Linear: the input must be a torch\.Tensor, but got list"):
        layer.Linear(2, 3)([[1.0, 2.0]])
    with pytest.raises(TypeError, match="but got NoneType"):
        layer.Linear(2, 3)()
    with pytest.raises(ShapeError, match=r"voting_size=3 .* but got 4"):
        layer.VotingLayer(3)(torch.zeros(2, 4))
    for wrong in (0, 2.0, True):
        with pytest.raises(ValueError, match="voting_size must be a whole number of at least 1"):
            layer.VotingLayer(wrong)


def test_a_layer_of_ones_own_is_not_put_into_the_table():
    made = stateless(nn.PixelShuffle, "N C H W", example=(2,), module=__name__)
    assert made(2, step_mode="m")(torch.zeros(5, 1, 4, 3, 2)).shape == (5, 1, 1, 6, 4)
    assert "PixelShuffle" not in registry


def test_weight_standardization_by_hand():
    conv = layer.WSConv2d(1, 2, (1, 3), bias=False, eps=0.0)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, 2.0, 6.0]]], [[[0.0, 3.0, 0.0]]]]))
        conv.gain[1] = 2.0
    # row 1: mean 3, squares 4 + 1 + 9 = 14, 3 * 14 / 2; row 2: mean 1, squares 6, 3 * 6 / 2
    want = torch.tensor([[-2.0, -1.0, 3.0], [-1.0, 2.0, -1.0]]) / torch.tensor([[21.0], [9.0]]).sqrt()
    torch.testing.assert_close(conv.get_weight().flatten(1), want * torch.tensor([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="more than one weight for each output"):
        layer.WSConv2d(1, 2, 1)(torch.zeros(1, 1, 1, 1))
    assert list(layer.WSLinear(3, 2, gain=False).state_dict()) == ["weight", "bias"]
    linear = layer.WSLinear(3, 2, gain=False, bias=False, step_mode="m")
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(linear(x), x @ linear.get_weight().T)
    double = layer.WSLinear(3, 2).double()
    assert torch.autograd.gradcheck(
        lambda w, x: torch.func.functional_call(double, {"weight": w}, (x,)),
        (double.weight, torch.randn(2, 3, dtype=torch.float64, requires_grad=True)),
    )


def test_folding_and_unfolding():
    x = torch.randn(4, 3, 2)
    assert torch.equal(unfold_time(fold_time(x), 4), x)
    assert fold_time(x).data_ptr() == x.data_ptr()
    with pytest.raises(ShapeError, match=r"\[B=7, 2\] cannot be unfolded into T=4 steps"):
        unfold_time(torch.zeros(7, 2), 4)
    with pytest.raises(ShapeError, match="sequence"):
        fold_time(torch.zeros(3))
    with pytest.raises(ShapeError, match="at least one step"):
        loop_over_time(torch.relu, torch.zeros(0, 2))
    pair = apply_folded(lambda x: (x, x.sum(1)), x)
    assert torch.equal(pair[0], x)
    assert torch.equal(pair[1], x.sum(2))
    assert torch.equal(
        apply_folded(lambda x: x + torch.arange(12.0).view(12, 1), torch.zeros(1).expand(4, 3, 2)).sum(),
        torch.tensor(132.0),
    )


@pytest.mark.parametrize("name", PLAIN)
def test_is_exported_for_any_number_of_steps_and_samples(name):
    module, (x,) = build(name).eval(), inputs(name)
    free = {0: torch.export.Dim("T"), 1: torch.export.Dim("N")}
    program = torch.export.export(nn.Sequential(module), (x,), dynamic_shapes=(free,)).module()
    for held in (x, torch.randn(T + 2, x.shape[1] + 70, *x.shape[2:])):
        torch.testing.assert_close(program(held), module(held), rtol=0, atol=0)


@pytest.mark.parametrize(("start", "end"), [(1, -1), (0, 1), (0, -1), (2, 3), (-2, -1), (-4, -2), (1, 2)])
@pytest.mark.parametrize("frames", [0, 1, T])
def test_flattens_the_axes_of_each_step(start, end, frames):
    x = torch.randn(frames, 3, 2, 4, 5)
    for given in (x, x.transpose(3, 4), x.transpose(1, 2), x[:1].expand(frames, -1, -1, -1, -1) if frames else x):
        found = layer.Flatten(start, end, step_mode="m")(given)
        want = [nn.Flatten(start, end)(frame) for frame in given]
        torch.testing.assert_close(found, torch.stack(want) if want else found, rtol=0, atol=0)
        assert found.shape[1:] == nn.Flatten(start, end)(torch.zeros(given.shape[1:])).shape
