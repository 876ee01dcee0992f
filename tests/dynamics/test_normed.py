"""A batch normalisation and the neuron behind it as one run: the law of both, and all that keeps them apart.

In Triton's interpreter. The neuron is bit for bit the eager loop with the scale and the shift of the batch; these, and
all gradients, are those of the two modules apart, up to the rounding of sums in another order.
"""

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from dynamics_cases import NEURONS, assert_close, assert_equal, exactness, inputs
from torch import nn

import spikescope
from ranks import in_two_ranks
from sample import sample
from spikescope import functional, layer, monitor, neuron
from spikescope.dynamics.norm import pair as normed
from spikescope.dynamics.norm.prepared import PreparedNormed
from spikescope.dynamics.triton import launch
from spikescope.layer.norm_handover import _norm
from spikescope.neuron.fast import after_norm
from spikescope.neuron.fast.shortcut import goes_as_written, names_of_the_way
from spikescope.recording import open_recording
from spikescope.surrogate import ATan

pytestmark = pytest.mark.skipif(
    not (launch.available() and launch.interpreted()), reason="Triton is not in its interpreter"
)

C = 3
MOMENTS = 8  # roundings of the largest value, for sums in another order
GRADIENT = 1e-4  # of the norm of a gradient: it is a sum over a channel


def _admitted(cls):
    node = cls(**cls.example)
    return goes_as_written(node, names_of_the_way(cls)) and node._plainly_driven()


PAIRED = [cls for cls in NEURONS if _admitted(cls)]


def _name(cls):
    return cls.__name__


@pytest.fixture
def fused(monkeypatch):
    """The scales and shifts of every run that was one, as a list that grows."""
    seen = []
    settle = normed._settle

    def noted(*args):
        found = settle(*args)
        seen.append(found[0].clone())
        return found

    monkeypatch.setattr(normed, "_settle", noted)
    run = PreparedNormed.run

    def noted_again(*args):
        settled, out = run(*args)
        seen.append(settled.flatten(1).clone())
        return settled, out

    monkeypatch.setattr(PreparedNormed, "run", noted_again)
    return seen


def pairs(cls=neuron.LIFNode, norm=None, mode="m", **fields):
    """The same two modules as one run, and apart in the eager loop."""
    norm = norm or layer.BatchNorm2d(C)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 1.5, C))
            norm.bias.copy_(torch.linspace(-0.3, 1.0, C))
    net = nn.Sequential(norm, cls(**cls.example | fields))
    functional.set_step_mode(net, mode)
    apart = copy.deepcopy(net)
    apart[1].backend, net[1].backend = "torch", "triton"
    return functional.fuse_bn_neurons(net, training=True), apart


def sequence(last=False, dtype=torch.float32, steps=3, shape=(C, 2, 4)):
    x = (inputs(steps, 3, *shape) * torch.linspace(0.2, 3, C).view(C, *(1,) * (len(shape) - 1)) + 1.7).to(dtype)
    return x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (steps, 3)) if last else x


def results(net, x, again=False):
    """Forwards: output and state, buffers; and all gradients of a random sum of these."""
    functional.reset_net(net)
    leaf = x.detach().requires_grad_()
    y = net(leaf)
    state = [held for held in net[1].memories() if isinstance(held, torch.Tensor)]
    weights = [inputs(*held.shape, seed=9 + i).to(held) for i, held in enumerate((y, *state))]
    loss = sum((held * weight).double().sum() for held, weight in zip((y, *state), weights, strict=True))
    wanted = [leaf, *(held for held in net.parameters() if held.requires_grad)]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True, create_graph=again)
    if again:
        total = sum(grad.square().sum() for grad in grads)
        grads += torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
    return [y.detach(), *(held.detach() for held in state)], [*net.buffers()], grads


def assert_alike(got, want, dtype=torch.float32):
    """Spikes the same; buffers, gradients and an output that is no spikes up to rounding."""
    spikes = 0 if want[0][0].frac().any() else 1
    assert not spikes or torch.equal(got[0][0], want[0][0])
    for a, b in zip((*got[0][spikes:], *got[1]), (*want[0][spikes:], *want[1]), strict=True):
        size = b.abs().max().clamp_min(1e-3)
        assert (a - b).abs().max() <= 32 * MOMENTS * torch.finfo(torch.float32).eps * size
    for a, b in zip(got[2], want[2], strict=True):
        off = (a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-3)
        assert off <= max(GRADIENT, 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("last", [False, True], ids=["in order", "channels last"])
@pytest.mark.parametrize("cls", sample(PAIRED, *PAIRED[:1], neuron.LIFNode, neuron.ParametricLIFNode), ids=_name)
def test_the_neuron_is_the_eager_loop_with_the_scale_of_the_batch(cls, last, fused):
    net, apart = pairs(cls, store_v_seq=True)
    x = sequence(last)
    got = results(net, x)
    (settled,) = fused
    twin = apart[1]
    twin.x_scale, twin.x_shift = (held.view(C, 1, 1) for held in settled[:2])
    with torch.no_grad():
        y = twin(x)
    exact, _ = exactness(net[1], torch.float32)  # the interpreter has the exponential of NumPy
    (assert_close if y.frac().any() and not exact else assert_equal)(got[0][0], y, "output")
    (assert_equal if exact else assert_close)(net[1].v_seq, twin.v_seq, "v_seq")
    twin.x_scale = twin.x_shift = None
    want = results(apart, x)
    assert_alike(got, want)
    wide = x.double().transpose(1, 2).transpose(0, 1).flatten(1)
    variance, mean = torch.var_mean(wide, 1, correction=0)
    rate = (variance + net[0].eps).rsqrt()
    for found, right in ((settled[2], mean), (settled[3], rate)):
        assert ((found - right).abs() <= MOMENTS * torch.finfo(torch.float32).eps * right.abs().max()).all()


KINDS = {
    "not affine": lambda: layer.BatchNorm2d(C, affine=False),
    "cumulative": lambda: layer.BatchNorm2d(C, momentum=None),
    "without buffers": lambda: layer.BatchNorm2d(C, track_running_stats=False),
    "frozen": lambda: layer.BatchNorm2d(C).requires_grad_(False),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("kind", ["plain", *KINDS])
def test_kinds_of_normalisations(kind, training, fused):
    net, apart = pairs(norm=KINDS.get(kind, lambda: layer.BatchNorm2d(C))())
    for each in (net, apart):
        results(each, sequence() + 0.3)
        each.train(training)
    fused.clear()
    assert_alike(results(net, sequence()), results(apart, sequence()))
    assert len(fused) == 1


@pytest.mark.parametrize("mode", ["s", "m"])
def test_step_modes_and_features(mode, fused):
    """Single steps, from the state of the step before; `[N, C]` and `[N, C, L]`; runs of several segments."""
    net, apart = pairs(norm=layer.BatchNorm1d(C), mode=mode)
    for shape in ((C,), (C, 7)):
        x = sequence(steps=9, shape=shape)
        assert_alike(results(net, x if mode == "m" else x[0]), results(apart, x if mode == "m" else x[0]))
    assert len(fused) == 2
    x = sequence(shape=(C,))
    if mode == "s":
        functional.reset_net(net), functional.reset_net(apart)
        for step in x:
            assert torch.equal(net(step), apart(step))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes(dtype, fused):
    """In half precision nothing is rounded between the two: against the modules apart in float32."""
    net, apart = pairs(norm=layer.BatchNorm2d(C, dtype=torch.float64 if dtype is torch.float64 else None))
    x = sequence(dtype=dtype)
    got, want = results(net, x), results(apart, x if dtype is torch.float64 else x.float())
    assert got[0][0].dtype is dtype
    got[0][0] = got[0][0].to(want[0][0])
    assert_alike(got, want, dtype)
    assert fused


def test_one_sample_of_any_stride(fused):
    """The distance between samples says nothing where there is one; channels are found all the same."""
    net, apart = pairs()
    x = sequence()[:, :1]
    held = torch.empty_strided(x.shape, (x[0].numel() + 7, 3, *x.stride()[2:])).copy_(x)
    assert_alike(results(net, held), results(apart, x))
    assert fused


def _from_rest(net, x):
    functional.reset_net(net)
    return net(x)


def _of_pytorch(net, x, reentrant):
    return torch.utils.checkpoint.checkpoint(_from_rest, net, x, use_reentrant=reentrant)


CHECKPOINTS = {
    "of ours": functional.checkpoint,
    "of PyTorch": partial(_of_pytorch, reentrant=False),
    "of PyTorch, reentrant": partial(_of_pytorch, reentrant=True),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_inside_a_checkpoint_they_run_apart(kind, fused):
    found = []
    for each in pairs():
        functional.reset_net(each)
        leaf = sequence().requires_grad_()
        y = CHECKPOINTS[kind](each, leaf)
        y.sum().backward()
        found.append((y.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    assert not fused


def test_second_derivatives():
    net, apart = pairs(surrogate_function=ATan())
    assert_alike(results(net, sequence(), again=True), results(apart, sequence(), again=True))


def test_gradients_of_potentials_and_of_the_last_state_alone(fused):
    net, apart = pairs(store_v_seq=True)
    found = []
    for each in (net, apart):
        for loss in (lambda each: each[1].v_seq.square().sum(), lambda each: each[1].v.square().sum()):
            functional.reset_net(each)
            leaf = sequence().requires_grad_()
            each(leaf)
            found.append(torch.autograd.grad(loss(each), leaf)[0])
    for a, b in zip(found[:2], found[2:], strict=True):
        assert (a - b).norm() <= GRADIENT * b.norm()
    assert len(fused) == 2


def _see(module, *args):
    """A hook that changes nothing."""


APART = {
    "a hook on the normalisation": lambda net: net[0].register_forward_hook(_see),
    "a hook before the neuron": lambda net: net[1].register_forward_pre_hook(_see),
    "a hook on the gradient": lambda net: net[1].register_full_backward_hook(_see),
    "a monitor of what is between": lambda net: monitor.OutputMonitor(net, layer.BatchNorm2d),
    "a monitor of inputs": lambda net: monitor.InputMonitor(net, neuron.LIFNode),
    "a monitor of their gradients": lambda net: monitor.GradInputMonitor(net, neuron.LIFNode),
    "the eager loop": lambda net: setattr(net[1], "backend", "torch"),
    "a scale of its own": lambda net: (
        setattr(net[1], "x_scale", torch.ones(1)),
        setattr(net[1], "x_shift", torch.zeros(1)),
    ),
    "a frame of its own": lambda net: setattr(net[1], "forward", net[1].forward),
}


@pytest.mark.parametrize("what", APART)
def test_where_somebody_is_between_them_they_run_apart(what, fused):
    net, apart = pairs()
    held = APART[what](net)
    assert_alike(results(net, sequence()), results(apart, sequence()))
    assert not fused
    del held


def test_a_call_that_is_not_of_the_sequential_is_a_normalisation(fused):
    net, apart = pairs()
    x = sequence()
    torch.testing.assert_close(net[0](x), apart[0](x))
    other = nn.Sequential(net[0], nn.Identity(), net[1])
    functional.reset_net(net)
    assert torch.equal(other(x), apart(x))
    frame = x[:1].expand(4, *x.shape[1:])  # one frame is all there is to normalise
    functional.reset_net(net), functional.reset_net(apart)
    assert torch.equal(net(frame), apart(frame))
    assert not fused
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(torch.ones(1, 1, C, 1, 1))
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements"):
        net(torch.ones(2, 2, 4, 2, 2))


def test_an_input_that_nobody_took_is_forgotten(fused):
    net, _ = pairs()
    x = sequence()
    norm = _norm(net[0])
    after_norm.give(net[1], norm, x)
    assert after_norm.taken(net[1], x + 1) is None
    assert after_norm.taken(net[1], x) is None
    after_norm.give(net[1], norm, x)
    assert "_norm" not in pickle.loads(pickle.dumps(net))[1].__dict__


def test_monitors_of_spikes_and_potentials_see_the_run(fused):
    net, apart = pairs()
    tables = []
    for each in (net, apart):
        with (
            monitor.record(each, ["rate", "silent share"]) as recording,
            monitor.OutputMonitor(each, neuron.LIFNode) as m,
        ):
            results(each, sequence())
        tables.append((str(recording.table()), m.records[0]))
    assert tables[0][0] == tables[1][0]
    assert torch.equal(tables[0][1], tables[1][1])
    assert fused


def _recorded(net, place):
    with monitor.record(net, ["spike", "h", "v", "grad_output"], to=place):
        results(net, sequence())
    return {
        (name, key): signal.read() for name, layer in open_recording(place).items() for key, signal in layer.items()
    }


def _judged(net, place):
    with monitor.health(net) as watch:
        for _ in range(2):
            results(net, sequence())
    found = watch.layers()
    return {
        **{(name, key): torch.as_tensor(held) for name, row in found.items() for key, held in row.items()},
        **{(at.layer, at.kind): torch.tensor(at.number) for at in watch.everything},
        "potentials": torch.tensor([held for _, held in sorted(dict(watch.potentials).items())]),
    }


def _flown(net, place):
    with monitor.flight_recorder(net, to=place, report=False) as recorder:
        for _ in range(3):
            results(net, sequence())
        recording = open_recording(recorder.dump())
    return {(name, key): signal.read() for name, layer in recording.items() for key, signal in layer.items()}


def _shown(net, place):
    with spikescope.live(net, quiet=True) as view:
        results(net, sequence())
        results(net, sequence())
        found = view.document()
    rates = {row["name"]: torch.tensor(row["rate"]) for row in found["layers"] if "rate" in row}
    return {
        **rates,
        **{("potential", at): torch.tensor(held["values"]) for at, held in enumerate(found["potentials"])},
        "gradients": torch.tensor(found["flow"]["norms"]),
    }


@pytest.mark.parametrize("look", [_recorded, _judged, _flown, _shown])
def test_what_looks_inside_sees_the_numbers_of_the_two_apart(look, tmp_path, fused):
    net, apart = pairs()
    got, want = look(net, tmp_path / "fused"), look(apart, tmp_path / "apart")
    assert got.keys() == want.keys()
    assert len(got) >= 3
    for name, held in want.items():
        assert (got[name] - held).double().norm() <= GRADIENT * held.double().norm(), name
    assert bool(fused) == (look is _recorded)  # the others look at what is between, too


def test_the_copy_keeps_names_and_goes_through_pickle(fused):
    net, apart = pairs()
    assert list(net.state_dict()) == list(apart.state_dict())
    again = pickle.loads(pickle.dumps(net))
    assert_alike(results(again, sequence()), results(apart, sequence()))
    assert len(fused) == 1
    with pytest.raises(ValueError, match=r"of spikescope\.layer with a neuron right after it"):
        functional.fuse_bn_neurons(nn.Sequential(nn.BatchNorm2d(3), neuron.LIFNode()), training=True)


SPLITS = (1, 0)  # samples of the first process: parts of different sizes, and one that is empty


def _rank(rank):
    """One part of the batch, fused and apart, with its share of the gradients."""
    found = []
    for split in SPLITS:
        own = slice(0, split) if rank == 0 else slice(split, None)
        for each in pairs():
            functional.convert_sync_batchnorm(each)
            leaf = sequence()[:, own].clone().requires_grad_()
            y = each(leaf)
            kind = type(y.grad_fn).__name__
            (y * inputs(*sequence().shape)[:, own]).sum().backward()
            results = (y, leaf.grad, each[0].weight.grad, each[0].running_mean, each[0].running_var)
            found.append((kind, [held.tolist() for held in results]))
    return found


def test_statistics_of_all_processes(tmp_path):
    first, second = in_two_ranks(_rank, tmp_path / "meeting")
    assert [kind == "_NormedBackward" for kind, _ in first] == [True, False, False, False]
    assert [kind == "_NormedBackward" for kind, _ in second] == [True, False, True, False]
    for told in (first, second):
        for (_, got), (_, want) in zip(told[::2], told[1::2], strict=True):
            assert got[0] == want[0]
            for a, b in zip(map(torch.tensor, got[1:]), map(torch.tensor, want[1:]), strict=True):
                assert (a - b).norm() <= GRADIENT * b.norm().clamp_min(1e-3)
