"""Training within a budget: the cheapest plan, a measured peak, and not a bit of the result is another."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

from ranks import in_two_ranks
from sample import WHOLE
from spikescope import functional, layer, models, monitor, neuron
from spikescope.functional.memory import fit, measured, plan, saved_tensors
from spikescope.functional.memory.peak import most_allocated
from spikescope.functional.memory.segments import Stretch, held_stretches, put_segments

CPU = torch.device("cpu")


def stem(channels):
    """A convolution of images that a lean network keeps, so that segments have something to save."""
    return layer.Conv2d(2, channels, 5, padding=2, padding_mode="circular")


def row(blocks=4, channels=8):
    parts = []
    for block in range(blocks):
        parts += [
            layer.Conv2d(channels, channels, 3, padding=1) if block else stem(channels),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(),
        ]
    return [*parts, layer.Dropout(0.2), layer.Flatten(), layer.Linear(channels * 256, 4)]


class Blocks(nn.Module):
    """A network that is no row: a stem, blocks with a sum around them, a loop over a list."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*row(1)[:3])
        self.blocks = nn.ModuleList(nn.Sequential(*row(2)[3:6]) for _ in range(3))
        self.noise = neuron.NoisyLIFNode(**{**neuron.NoisyLIFNode.example, "generator": torch.Generator()})
        self.head = layer.Linear(8 * 256, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) + x
        return self.head(self.noise(x).flatten(-3))


def made(kind=lambda: nn.Sequential(*row())):
    torch.manual_seed(0)
    net = kind()
    functional.set_step_mode(net, "m")
    return net


X = torch.rand(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))


def step(net, x=X):
    """The loss, all gradients, and what is left behind, of a training step."""
    functional.reset_net(net)
    torch.manual_seed(5)
    x = x.clone().requires_grad_()
    loss = net(x).float().square().mean()
    loss.backward()
    held = [loss.detach(), x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
    held += [buffer.clone() for buffer in net.buffers()]
    held += [m.v.clone() for m in net.modules() if isinstance(m, neuron.Neuron)]
    net.zero_grad()
    return held


def alike(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("kind", [lambda: nn.Sequential(*row()), Blocks], ids=["row", "blocks"])
def test_every_budget_over_the_floor_is_kept_with_the_same_results(kind):
    floor = functional.fit_memory(made(kind), X, "1 GB", show=False).floor
    expected = step(made(kind))
    segments = set()
    for times in (1, 1.05, 1.2, 1.6, 10):
        budget = int(times * floor)
        net = made(kind)
        found = functional.fit_memory(net, X, budget, show=False)
        assert floor <= 1.001 * found.after + 1024, "no plan takes less than what is told to be the least"
        assert found.after <= budget
        assert tuple(held.name for held in held_stretches(net)) == found.segments
        assert alike(step(net), expected)
        peak = most_allocated(lambda net=net: step_alone(net), CPU)
        assert peak <= 1.02 * found.after
        segments.add(found.segments)
    assert len(segments) > 2, "the budgets lead to different segments"
    assert () in segments


def step_alone(net):
    functional.reset_net(net)
    net(X).sum().backward()
    net.zero_grad()
    functional.reset_net(net)


def test_a_budget_below_the_floor_is_refused_with_the_floor_and_the_network_stays_as_it_was():
    net = made()
    expected = step(made())
    with pytest.raises(ValueError, match=r"takes .* \((\d+) bytes\) at least, more than the budget of 1000 B") as told:
        functional.fit_memory(net, X, 1000, show=False)
    assert not held_stretches(net)
    assert not saved_tensors.is_lean(net)
    assert alike(step(net), expected)
    floor = int(str(told.value).split("(")[1].split(" ")[0])
    assert functional.fit_memory(net, X, floor, show=False).after <= floor


def test_the_network_is_left_with_all_that_it_had():
    net = made()
    net(X).sum().backward()
    torch.manual_seed(3)
    before = copy.deepcopy(net)
    drawn = torch.get_rng_state()
    gradients = [p.grad.clone() for p in net.parameters()]
    plan = functional.fit_memory(net, X, "1 GB", show=False)
    floor = functional.fit_memory(net, X, plan.floor, show=False)
    assert floor.segments
    assert torch.equal(torch.get_rng_state(), drawn)
    assert alike([p.grad for p in net.parameters()], gradients)
    assert alike(list(net.state_dict().values()), list(before.state_dict().values()))
    assert list(net.state_dict()) == list(before.state_dict())
    assert torch.equal(net[2].v, before[2].v)
    handle = net[0].register_forward_hook(lambda *_: None)
    functional.fit_memory(net, X, plan.floor, show=False)
    handle.remove()
    assert not [key for key in net[0]._forward_hooks if isinstance(key, int)]
    functional.unfit_memory(net)
    assert not held_stretches(net)
    assert not saved_tensors.is_lean(net)


def chains_from(of, part):
    """All ways from a part to the end."""
    if part == of.parts:
        return [()]
    return [(option, *rest) for option in of.options[part] for rest in chains_from(of, option.last)]


def test_no_choice_of_segments_within_the_budget_is_cheaper():
    """By trying all of them, on a course that was made up."""
    torch.manual_seed(1)
    sizes = torch.randint(1, 20, (8, 3)).tolist()
    parts = [measured.Part(plain, plain // 2, seconds, largest) for plain, seconds, largest in sizes]
    calls = {
        Stretch("", i, j): measured.Call("", i, j + 1, 1 + (i + j) % 3)
        for i in range(8)
        for j in range(i, min(i + 4, 8))
    }
    of = plan.model(measured.Course(parts, [], [(2, 3)], calls), lean=True)
    chains = [plan.Choice(chain) for chain in chains_from(of, 0)]
    assert len(chains) > 100
    for budget in (20, 30, 40, 50, 60, 90):
        best = min((chain.seconds for chain in chains if chain.peak(1.5) <= budget), default=None)
        found = plan.cheapest(of, budget, 1.5)
        assert (None if found is None else found.seconds) == best
        assert found is None or found.peak(1.5) <= budget
    least = min(chain.peak(1.5) for chain in chains)
    assert plan.smallest(of, 1.5).peak(1.5) <= 1.001 * least
    assert not any(held.stretch is not None and held.first <= 2 < held.last <= 3 for held in sum(of.options, ()))


def doubled(channels=8):
    """A row in which a module comes twice, and one that another calls besides."""
    norm = layer.BatchNorm2d(2)
    return nn.Sequential(norm, nn.Sequential(layer.Conv2d(2, 2, 3, padding=1)), norm, nn.Sequential(norm, nn.ReLU()))


def test_a_module_that_runs_twice_is_in_no_segment():
    net = made(lambda: nn.Sequential(doubled(), layer.Flatten(), layer.Linear(512, 4)))
    expected = step(made(lambda: nn.Sequential(doubled(), layer.Flatten(), layer.Linear(512, 4))))
    functional.fit_memory(net, X, functional.fit_memory(net, X, "1 GB", show=False).floor, show=False)
    assert alike(step(net), expected)
    assert not any(path.startswith("0.0") for path, _, _ in held_stretches(net))


def test_the_floor_hangs_on_no_seconds():
    """Layers of one size have many choices of one peak: which is taken is the same on each day, with other times."""
    calls = {Stretch("", i, j): measured.Call("", i, j + 1, 1000) for i in range(12) for j in range(i, min(i + 4, 12))}
    floors = set()
    for day in range(8):
        seconds = torch.rand(12, generator=torch.Generator().manual_seed(day)).tolist()
        course = measured.Course([measured.Part(1000, 1000, spent, 10) for spent in seconds], [], [], calls)
        floors.add(plan.smallest(plan.model(course, lean=True), 1.5).stretches)
    assert len(floors) == 1


def test_what_an_earlier_step_has_left_behind_is_no_room():
    """Tensors in a circle are let go of when Python looks for circles, which may be in the middle of a step."""

    def first():
        ring = [torch.ones(100_000)]
        ring.append(ring)

    def second():
        gc.collect()
        return torch.ones(1000)

    gc.disable()
    try:
        most_allocated(first, CPU)
        assert most_allocated(second, CPU) >= 4000
    finally:
        gc.enable()


def test_a_floor_that_was_told_is_enough_when_threads_let_go_later(monkeypatch):
    """In a process group tensors live until a thread of it lets go: a step takes some bytes more, now and then."""
    with pytest.raises(ValueError, match="at least") as told:
        functional.fit_memory(made(), X, 1000, show=False)
    floor = int(str(told.value).split("(")[1].split(" ")[0])
    monkeypatch.setattr(fit, "most_allocated", lambda work, device: most_allocated(work, device) + 136)
    found = functional.fit_memory(made(), X, floor, show=False)
    assert found.after <= floor
    assert functional.fit_memory(made(), X, found.floor, show=False).after <= found.floor


ROWS = [Stretch("", 0, 2), Stretch("", 3, 5), Stretch("", 7, 11), Stretch("12")]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copies_have_their_own_segments(copied):
    net = made()
    put_segments(net, ROWS)
    twin = copied(net)
    assert set(held_stretches(twin)) == set(ROWS)
    assert alike(step(twin), step(made()))
    assert kept_floats(twin) < 0.5 * kept_floats(made())


def kept_floats(net):
    """How many numbers autograd keeps of a forward pass, apart from checkpoints."""
    functional.reset_net(net)
    course = []

    class Counting(saved_tensors.Ledger):
        def _keep(self, x):
            course.append(x.numel())
            return super()._keep(x)

    functional.lean(net)
    with saved_tensors.keeping_books_by(Counting):
        net(X)
    functional.lean(net, on=False)
    functional.reset_net(net)
    return sum(course)


def test_a_child_that_is_called_alone_or_raises_leaves_nothing_behind():
    net = made()
    put_segments(net, ROWS)
    net[0](X)
    with pytest.raises(ValueError, match="BatchNorm2d"):
        net[1](torch.rand(3))
    with pytest.raises(RuntimeError):
        net(torch.rand(4, 3, 5, 16, 16))
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None
    assert alike(step(net), step(made()))


def test_in_a_checkpoint_or_without_gradients_there_are_no_segments():
    net = made()
    put_segments(net, ROWS)

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return functional.checkpoint(self.net, x)

    assert alike(step(Around()), step(made()))
    with torch.no_grad():
        net(X)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype):
    with torch.autocast("cpu", dtype):
        expected = step(made())
        net = made()
        found = functional.fit_memory(net, X, "1 GB", show=False)
        functional.fit_memory(net, X, found.floor, show=False)
        assert held_stretches(net)
        assert alike(step(net), expected)


def test_double_backward_and_several_backward_passes():
    def run(net):
        functional.reset_net(net)
        torch.manual_seed(5)
        x = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()
        return [x.grad, *(p.grad for p in net.parameters() if p.grad is not None)]

    net = functional.lean(made())
    put_segments(net, ROWS)
    assert alike(run(net), run(made()))


def test_monitors_see_each_value_once():
    tables = []
    for segments in ((), ROWS):
        net = made()
        put_segments(net, segments)
        with (
            monitor.record(net, ("rate", "count")) as seen,
            monitor.record(net, "gradient norm", signal="grad_output") as norms,
        ):
            step(net)
            step(net)
        tables.append((str(seen.table()), str(norms.table())))
    assert tables[0] == tables[1]


def test_compiled_code_is_left_alone():
    net = made(lambda: nn.Sequential(*row()[:9]))
    put_segments(net, ROWS[:2])
    torch._dynamo.reset()
    expected = step(made(lambda: nn.Sequential(*row()[:9])))
    for a, b in zip(step(torch.compile(net, backend="aot_eager", fullgraph=True)), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_published_network():
    torch.manual_seed(0)
    x = torch.rand(4, 4, 3, *((64, 64) if WHOLE else (32, 32)))

    def network():
        torch.manual_seed(0)
        net = models.create("sew_resnet18", neuron=neuron.LIFNode, step_mode="m", num_classes=4)
        for last in (net.layer3, net.layer4):  # whose gradients would be most of the memory
            last.requires_grad_(False)
        return net

    net = network()
    floor = functional.fit_memory(net, x, "1 GB", show=False).floor
    found = functional.fit_memory(net, x, floor, show=False)
    assert found.after <= found.budget
    assert found.segments
    assert alike(step(net, x), step(network(), x))


def test_the_table_names_the_parts(capsys):
    net = made()
    floor = functional.fit_memory(net, X, "1 GB", show=False).floor
    found = functional.fit_memory(net, X, floor)
    told = capsys.readouterr().out
    assert told.strip() == str(found)
    assert "kept before" in told
    assert all(name in told for name in found.segments)
    assert sum(row[1] for row in found.rows) > sum(row[2] for row in found.rows)


@pytest.mark.parametrize(
    ("net", "x", "budget", "error", "words"),
    [
        (nn.ReLU(), X, "1 GB", ValueError, "neither the network nor its input learns"),
        (nn.Linear(2, 2), torch.rand(2), "much", ValueError, "'12 GB', but got 'much'"),
        (nn.Linear(2, 2), torch.rand(2), True, ValueError, "'12 GB', but got True"),
        (nn.Linear(2, 2), torch.rand(2), 0, ValueError, "'12 GB', but got 0"),
        (torch.relu, X, 1, TypeError, "fit_memory"),
    ],
)
def test_bad_input_gets_words(net, x, budget, error, words):
    with pytest.raises(error, match=words):
        functional.fit_memory(net, x, budget)


def _on_a_rank(rank):
    net = functional.convert_sync_batchnorm(made(lambda: nn.Sequential(*row(2))))
    wrapped = nn.parallel.DistributedDataParallel(net)
    x = X * (1 + rank)
    floor = functional.fit_memory(wrapped, x, "1 GB", show=False).floor
    found = functional.fit_memory(wrapped, x, floor, show=False)
    number = 2 + len(list(net.parameters()))  # without the running statistics, which go on
    results = step(wrapped, x)[:number]
    functional.unfit_memory(wrapped)
    return found.segments, found.floor, alike(results, step(wrapped, x)[:number])


def test_ranks_choose_alike_and_norms_meet_in_segments(tmp_path):
    first, second = in_two_ranks(_on_a_rank, tmp_path / "meeting")
    assert first == second
    assert first[0]
    assert first[2]


def test_what_a_pool_makes_of_spikes_is_counted_as_bits():
    parts = [layer.Conv2d(2, 16, 3, padding=1), neuron.LIFNode(), layer.MaxPool2d(2), layer.Conv2d(16, 4, 1)]
    net = functional.lean(nn.Sequential(*parts))
    functional.set_step_mode(net, "m")
    course = measured.follow(net, (torch.rand(4, 4, 2, 16, 16),), CPU)
    spikes = 4 * 4 * 16 * 8 * 8
    assert (4 * spikes, spikes // 8) in [(part.plain, part.lean) for part in course.parts]


def test_a_plan_is_of_training_in_inference_mode_too():
    net, x = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 4)), torch.rand(256, 64)
    wanted = functional.fit_memory(net, x, "1 GB", show=False)
    with torch.inference_mode():
        plan = functional.fit_memory(net, x, "1 GB", show=False)
    assert plan.after == wanted.after > 0
