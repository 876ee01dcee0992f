"""Sequences through modules: step by step, in chunks, all steps at once."""

import pytest
import torch
from torch import nn

from spikescope import functional, layer
from spikescope.base import StepModule
from spikescope.errors import ShapeError
from spikescope.functional import chunk_multi_step_forward, multi_step_forward, seq_to_ann_forward
from spikescope.neuron import IFNode, LIFNode


def network(step_mode="s"):
    torch.manual_seed(0)
    linear = nn.Linear(3, 2)
    linear.load_state_dict({name: (8 * held).round() / 8 for name, held in linear.state_dict().items()})
    return nn.Sequential(linear, LIFNode(v_threshold=0.2, step_mode=step_mode))


def test_multi_step_by_hand():
    node = IFNode(v_threshold=1.0, v_reset=None)
    x_seq = torch.tensor([[0.75], [0.75], [0.75]])  # H = .75, 1.5, 1.25
    assert multi_step_forward(x_seq, node).flatten().tolist() == [0.0, 1.0, 1.0]
    assert node.v.item() == 0.25


@pytest.mark.parametrize("wrap", [list, tuple, nn.ModuleList, lambda m: m, lambda m: m.forward])
def test_multi_step_takes_modules_and_functions(wrap):
    net = network()
    x_seq = torch.rand(5, 7, 3)
    want = torch.stack([net(x) for x in x_seq])
    functional.reset_net(net)
    got = multi_step_forward(x_seq, wrap(net))
    assert torch.equal(got, want)
    assert want.sum() > 0


def test_multi_step_of_several_outputs_and_odd_inputs():
    x_seq = torch.rand(4, 2, 5).transpose(0, 2)  # [5, 2, 4], not contiguous
    mean, (double, half) = multi_step_forward(x_seq, lambda x: (x.mean(), (2 * x, x.half())))
    assert torch.equal(double, 2 * x_seq)
    assert mean.shape == (5,)
    assert half.dtype == torch.float16
    assert multi_step_forward(torch.rand(1, 0, 3), network()).shape == (1, 0, 2)


def test_multi_step_without_a_step_is_refused():
    with pytest.raises(ShapeError, match=r"at least one step, but got \[T=0, N=2\]"):
        multi_step_forward(torch.ones(0, 2), nn.ReLU())


@pytest.mark.parametrize("split_size", [1, 2, 3, 5, 6, 100])
def test_chunks_equal_one_run(split_size):
    whole, cut = network("m"), network("m")
    x_seq = torch.randint(16, (6, 7, 3)) / 16  # with the weights above, all sums are exact in any order
    linear = whole[0]
    got = chunk_multi_step_forward(split_size, x_seq, [linear, cut[1]])
    assert torch.equal(got, whole(x_seq))
    assert torch.equal(cut[1].v, whole[1].v)
    assert 0 < got.mean() < 1


@pytest.mark.parametrize("steps", [1, 6, 7])
def test_without_gradient_the_chunks_are_written_in_place_and_the_same(steps):
    x_seq = torch.rand(steps, 2, 3)

    def twice(chunk):
        return chunk * 2, [chunk.sum(2)]

    want = chunk_multi_step_forward(3, x_seq, twice)
    with torch.no_grad():
        double, (total,) = chunk_multi_step_forward(3, x_seq, twice)
    assert torch.equal(double, want[0])
    assert torch.equal(total, want[1][0])


def test_without_gradient_an_output_without_time_is_joined_as_with_it():
    with torch.no_grad():
        last = chunk_multi_step_forward(2, torch.arange(5.0).reshape(5, 1, 1), lambda chunk: chunk[-1])
    assert last.flatten().tolist() == [1.0, 3.0, 4.0]


def test_chunks_reach_the_modules_one_after_another():
    seen = []

    def record(chunk):
        seen.append(len(chunk))
        return chunk, chunk.sum(1)

    x_seq = torch.arange(10.0).view(5, 2)
    same, total = chunk_multi_step_forward(2, x_seq, record)
    assert seen == [2, 2, 1]
    assert torch.equal(same, x_seq)
    assert total.tolist() == [1.0, 5.0, 9.0, 13.0, 17.0]
    assert chunk_multi_step_forward(2, torch.ones(0, 2), nn.ReLU()).shape == (0, 2)


@pytest.mark.parametrize("split_size", [0, -1, 2.0, True, None])
def test_a_bad_chunk_is_refused(split_size):
    with pytest.raises(ValueError, match="split_size must be a whole number of at least 1, but got"):
        chunk_multi_step_forward(split_size, torch.ones(4, 2), nn.ReLU())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(4, 2, 3, 6, 5), (1, 1, 3, 6, 5), (3, 0, 3, 6, 5)])
def test_seq_to_ann_equals_a_loop(shape, memory_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()).double().to(memory_format=memory_format)
    x_seq = torch.rand(shape, dtype=torch.float64)
    x_seq = x_seq.flatten(0, 1).to(memory_format=memory_format).unflatten(0, shape[:2])
    want = torch.stack([net(x) for x in x_seq])
    for modules in (net, list(net), tuple(net), net.forward):
        torch.testing.assert_close(seq_to_ann_forward(x_seq, modules), want, rtol=1e-12, atol=1e-12)


def test_seq_to_ann_runs_once_on_the_folded_batch():
    shapes = []

    def record(x):
        shapes.append(tuple(x.shape))
        return x

    x_seq = torch.rand(4, 3, 2).transpose(0, 1)
    assert torch.equal(seq_to_ann_forward(x_seq, record), x_seq)
    assert shapes == [(12, 2)]


def test_a_chunk_is_a_batch_for_layers_in_single_steps():
    torch.manual_seed(3)
    net = nn.Sequential(layer.Linear(8, 4), IFNode(v_threshold=0.2), layer.Linear(4, 2), IFNode(v_threshold=0.2))
    x_seq = torch.rand(1024, 8)
    want = torch.stack([net(x) for x in x_seq])
    functional.reset_net(net)
    for node in (net[1], net[3]):
        node.step_mode = "m"
    with torch.no_grad():
        got = chunk_multi_step_forward(16, x_seq, net)
    assert got.shape == (1024, 2)
    assert torch.equal(got, want)
    assert 0 < got.sum() < got.numel()
    for mixing in (layer.BatchNorm1d(4), layer.Flatten(), layer.Dropout()):  # N would be their channels or features
        with pytest.raises(ValueError, match=rf"takes modules in step_mode='m', but {type(mixing).__name__}"):
            chunk_multi_step_forward(16, x_seq, [layer.Linear(8, 4), mixing])


def test_seq_to_ann_takes_a_tuple_of_sequences_for_the_first_module():
    x_seq = torch.rand(4, 2, 3, 8, 8)
    pooled = seq_to_ann_forward(x_seq, nn.MaxPool2d(2, return_indices=True))
    assert [part.shape for part in pooled] == [(4, 2, 3, 4, 4)] * 2
    got = seq_to_ann_forward(pooled, [nn.MaxUnpool2d(2), nn.Flatten()])
    want = torch.stack([nn.MaxUnpool2d(2)(*step) for step in zip(*pooled, strict=True)])
    assert want.count_nonzero() == pooled[0].numel()
    assert torch.equal(got, want.flatten(2))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((torch.ones(4, 2, 3), torch.ones(4, 3, 3)), ShapeError, r"same T and N, but got \[4, 2, 3\], \[4, 3, 3\]"),
        ((torch.ones(4, 2), 1.0), TypeError, "x_seq must be a torch.Tensor, but got float"),
        ((), TypeError, "x_seq must be a torch.Tensor, but got tuple"),
    ],
)
def test_seq_to_ann_refuses_sequences_that_do_not_belong_together(given, error, words):
    with pytest.raises(error, match=words):
        seq_to_ann_forward(given, torch.add)


def test_seq_to_ann_needs_time_and_batch():
    with pytest.raises(ShapeError, match="sequence"):
        seq_to_ann_forward(torch.ones(4), nn.ReLU())


class Stepping(StepModule, nn.ReLU):
    """Stateless, with a step mode."""


@pytest.mark.parametrize(
    ("run", "mode"),
    [
        (multi_step_forward, "s"),
        (lambda x_seq, m: chunk_multi_step_forward(2, x_seq, m), "m"),
        (seq_to_ann_forward, "s"),
    ],
)
def test_modules_in_the_other_step_mode_are_refused(run, mode):
    wrong = Stepping()
    wrong.step_mode = {"s": "m", "m": "s"}[mode]
    for modules in (wrong, [nn.ReLU(), wrong], nn.Sequential(nn.ReLU(), wrong), (nn.Sequential(wrong),)):
        with pytest.raises(ValueError, match=rf"Stepping.* step_mode='{wrong.step_mode}'.*'{mode}'"):
            run(torch.ones(3, 2, 2), modules)
    wrong.step_mode = mode
    assert run(torch.ones(3, 2, 2), [wrong]).shape == (3, 2, 2)


@pytest.mark.parametrize("run", [multi_step_forward, seq_to_ann_forward])
def test_what_cannot_be_called_is_refused(run):
    with pytest.raises(TypeError, match="a module, a list or tuple of modules, or a callable, but got int"):
        run(torch.ones(3, 2), [nn.ReLU(), 3])
    with pytest.raises(TypeError, match=r"x_seq must be a torch\.Tensor, but got list"):
        run([1.0], nn.ReLU())
    with pytest.raises(ShapeError, match="time first"):
        run(torch.ones(()), nn.ReLU())


@pytest.mark.parametrize(
    "run", [multi_step_forward, lambda x_seq, m: chunk_multi_step_forward(2, x_seq, m), seq_to_ann_forward]
)
def test_gradients_and_compile(run):
    net = nn.Linear(3, 2).double()
    x_seq = torch.rand(3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: run(x, net), x_seq)
    compiled = torch.compile(lambda x: run(x, net), backend="eager", fullgraph=True)
    assert torch.equal(compiled(x_seq), run(x_seq, net))
