"""Statistics over all processes: two ranks on the CPU with gloo against one process with the whole batch."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from ranks import in_two_ranks
from spikescope import functional, layer, neuron

C = 3
PARTS = {"even": (2, 2), "uneven": (1, 3), "empty": (0, 4)}  # samples of each rank


def network(step_mode, made=None):
    torch.manual_seed(5)
    norm = made or layer.BatchNorm2d(C, step_mode=step_mode)
    net = nn.Sequential(layer.Conv2d(2, C, 3, step_mode=step_mode), norm, layer.Conv2d(C, 2, 1, step_mode=step_mode))
    return net.double()


def batch(step_mode):
    torch.manual_seed(6)
    x = torch.randn(3, 4, 2, 5, 5, dtype=torch.float64) * torch.arange(1, 5).view(4, 1, 1, 1) + 2
    return x if step_mode == "m" else x[0]


def run(net, x):
    """Output and gradients after two calls, running statistics, and the output in eval where it has these."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        y = net(x)
        y.square().sum().backward()
    grads = {name: held.grad for name, held in net.named_parameters()}
    buffers = {name: held.clone() for name, held in net.named_buffers()}
    net.eval()
    return y.detach(), x.grad, net(x).detach() if buffers else x.detach(), grads, buffers


NORMS = {
    "BatchNorm2d": lambda mode: layer.BatchNorm2d(C, step_mode=mode),
    "cumulative": lambda mode: layer.BatchNorm2d(C, momentum=None, step_mode=mode),
    "without buffers": lambda mode: layer.BatchNorm2d(C, track_running_stats=False, step_mode=mode),
    "not affine": lambda mode: layer.BatchNorm2d(C, affine=False, step_mode=mode),
    "tdBN": lambda mode: layer.ThresholdDependentBatchNorm2d(0.5, 1.5, C),
    "TEBN": lambda mode: layer.TemporalEffectiveBatchNorm2d(3, C),
    "of torch, in a container": lambda mode: layer.SeqToANNContainer(nn.BatchNorm2d(C)),
}
CASES = [("BatchNorm2d", mode, split) for mode in "sm" for split in PARTS]
CASES += [(name, mode, "uneven") for name in ("cumulative", "without buffers", "not affine") for mode in "sm"]
CASES += [(name, "m", "uneven") for name in ("tdBN", "TEBN", "of torch, in a container")]
CONVERSIONS = {
    "ours": functional.convert_sync_batchnorm,
    "torch": nn.SyncBatchNorm.convert_sync_batchnorm,
}


def conversions(name):
    """What PyTorch makes of its own is for a GPU."""
    return [(by, convert) for by, convert in CONVERSIONS.items() if by == "ours" or "of torch" not in name]


def on_rank(folder, rank):
    """All that a process computes, in a file: the way back to the tests has no room for it."""
    results = {}
    for name, mode, split in CASES:
        part = batch(mode).split(PARTS[split], -4)[rank]
        for by, convert in conversions(name):
            results[name, mode, split, by] = run(convert(network(mode, NORMS[name](mode))), part)
    results["alone"] = alone_in_a_group(rank)
    results["ddp"] = data_parallel(rank)
    results["frame"] = repeated_frame(rank)
    results["too few"] = too_few(rank)
    torch.save(results, f"{folder}/{rank}.pt")


def alone_in_a_group(rank):
    groups = [torch.distributed.new_group([r]) for r in (0, 1)]
    net = functional.convert_sync_batchnorm(network("m"), groups[rank])
    part = batch("m").split(2, 1)[rank]
    return net(part).detach(), network("m")(part).detach()


def data_parallel(rank):
    torch.manual_seed(1)
    net = functional.convert_sync_batchnorm(nn.Sequential(network("m"), neuron.LIFNode(step_mode="m")))
    wrapped = nn.parallel.DistributedDataParallel(net)
    wrapped(batch("m").split(2, 1)[rank]).mean().backward()
    return {name: held.grad for name, held in net.named_parameters()}


def repeated_frame(rank):
    norm = functional.convert_sync_batchnorm(layer.BatchNorm2d(2, step_mode="m").double())
    frame = batch("s").split(2)[rank]
    y = norm(frame.expand(3, *frame.shape))
    again = functional.convert_sync_batchnorm(layer.BatchNorm2d(2, step_mode="m").double())
    return y.detach(), again(frame.repeat(3, 1, 1, 1, 1)).detach(), norm.running_var, again.running_var


def too_few(rank):
    norm = functional.convert_sync_batchnorm(layer.BatchNorm1d(2))
    try:
        norm(torch.zeros(rank, 2))
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sync")
    in_two_ranks(partial(on_rank, str(folder)), folder / "meeting")
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize(("name", "mode", "split"), CASES)
def test_two_ranks_are_one_process(ranks, name, mode, split):
    whole = run(network(mode, NORMS[name](mode)), batch(mode))
    for by, _ in conversions(name):
        parts = [rank[name, mode, split, by] for rank in ranks]
        for place in range(3):
            torch.testing.assert_close(torch.cat([part[place] for part in parts], -4), whole[place])
        for key, grad in whole[3].items():
            torch.testing.assert_close(parts[0][3][key] + parts[1][3][key], grad)
        for part in parts:
            for key, held in whole[4].items():
                torch.testing.assert_close(part[4][key], held)


def test_a_group_of_one_process_is_a_process_alone(ranks):
    for rank in ranks:
        assert torch.equal(*rank["alone"])


def test_distributed_data_parallel_takes_it_on_the_cpu(ranks):
    torch.manual_seed(1)
    whole = nn.Sequential(network("m"), neuron.LIFNode(step_mode="m"))
    whole(batch("m")).mean().backward()
    for name, held in whole.named_parameters():
        torch.testing.assert_close(ranks[0]["ddp"][name], held.grad)
        assert torch.equal(ranks[0]["ddp"][name], ranks[1]["ddp"][name])


def test_a_frame_that_is_repeated_is_not_the_frame_of_the_others(ranks):
    for rank in ranks:
        y, want, variance, wanted = rank["frame"]
        torch.testing.assert_close(y, want)
        torch.testing.assert_close(variance, wanted)


def test_one_value_in_all_processes_has_no_variance(ranks):
    for rank in ranks:
        assert "more than one value a channel, but all processes together have 1" in rank["too few"]


@pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)
@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
@pytest.mark.parametrize("mode", ["s", "m"])
def test_conversion_keeps_numbers_names_modes_and_hooks_without_a_group(convert, kind, mode):
    torch.manual_seed(0)
    space = {"1d": (), "2d": (3, 3), "3d": (2, 2, 2)}[kind]
    norm = getattr(layer, f"BatchNorm{kind}")(C, step_mode=mode)
    nn.init.normal_(norm.weight)
    plain, seen = copy.deepcopy(norm), []
    net = nn.Sequential(norm)
    handle = norm.register_forward_hook(lambda *args: seen.append(args))
    keys = list(net.state_dict())
    net = convert(net)
    assert isinstance(net[0], layer.SyncBatchNorm)
    assert isinstance(net[0], getattr(nn, f"BatchNorm{kind}"))
    assert (list(net.state_dict()), net[0].step_mode, net[0].weight) == (keys, mode, norm.weight)
    x = torch.randn(C, C, C, *space) if mode == "m" else torch.randn(C, C, *space)  # a wrong axis would go unseen
    assert torch.equal(net(x), plain(x))
    assert len(seen) == 1
    handle.remove()
    functional.set_step_mode(net, "m")
    functional.set_step_mode(plain, "m")
    net.eval()
    plain.eval()
    x = torch.randn(C, C, C, *space)
    for other in (net[0], copy.deepcopy(net[0]), pickle.loads(pickle.dumps(net[0]))):
        assert torch.equal(other(x), plain(x))
    assert seen[1:] == []


@pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)
def test_a_normalisation_that_does_more_keeps_its_class_and_what_it_has(convert):
    net = nn.ModuleList([layer.TemporalEffectiveBatchNorm2d(2, C), layer.ThresholdDependentBatchNorm1d(0.5, 2.0, C)])
    scale = net[0].scale
    net = convert(net)
    assert [type(norm) for norm in net] == [layer.TemporalEffectiveBatchNorm2d, layer.ThresholdDependentBatchNorm1d]
    assert net[0].scale is scale
    assert all(norm.synchronized for norm in net)
    assert not layer.BatchNorm2d(C).synchronized


def test_conversion_alone_twice_and_of_a_module_at_two_places():
    norm = layer.BatchNorm1d(C)
    assert functional.convert_sync_batchnorm(functional.convert_sync_batchnorm(norm)) is norm
    assert layer.SyncBatchNorm.convert_sync_batchnorm(norm) is norm
    shared = layer.BatchNorm1d(C)
    net = functional.convert_sync_batchnorm(nn.Sequential(shared, nn.ReLU(), shared))
    assert net[0] is net[2]
    with pytest.raises(TypeError, match=r"takes an nn\.Module"):
        functional.convert_sync_batchnorm([norm])
    assert [name for name, _ in norm.named_children()] == []


def test_the_layer_itself_takes_any_number_of_axes_and_the_arguments_of_torch():
    norm = layer.SyncBatchNorm(C, 1e-3, 0.3, True, True, None, "m")
    plain = nn.BatchNorm3d(C, 1e-3, 0.3)
    x = torch.randn(2, 4, C, 2, 3, 2)
    torch.testing.assert_close(norm(x), plain(x.flatten(0, 1)).unflatten(0, (2, 4)))
    assert norm(torch.randn(2, 4, C)).shape == (2, 4, C)
    with pytest.raises(ValueError, match=r"takes \[T, N, C, \*\], but got \[4, 3\]"):
        norm(torch.randn(4, C))


def test_another_version_of_the_conversion_of_torch_is_refused_in_words(monkeypatch):
    def convert_sync_batchnorm(cls, module, process_group=None):
        for _ in module.named_children():
            pass
        return module

    monkeypatch.setattr(nn.SyncBatchNorm, "convert_sync_batchnorm", classmethod(convert_sync_batchnorm))
    with pytest.raises(RuntimeError, match=r"functional\.convert_sync_batchnorm"):
        nn.SyncBatchNorm.convert_sync_batchnorm(layer.BatchNorm2d(C))
