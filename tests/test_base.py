"""Step modes and memories."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikescope.base import MemoryModule, MultiStepModule, SingleStepModule, StepModule, recomputing
from spikescope.errors import RecomputeError, ShapeError
from spikescope.sockets import at_rest


class Sum(MemoryModule):
    """Sums its inputs, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("count", torch.zeros(()))
        self.inner = nn.Identity()
        self.register_memory("total", 0.0)

    def single_step_forward(self, x):
        self.total = self.total + self.weight * x
        return self.total


class Sequences(MultiStepModule, MemoryModule):
    def multi_step_forward(self, x_seq):
        return x_seq


def test_step_modes():
    module = Sum()
    assert module.step_mode == "s"
    assert module.supported_step_mode() == ("s", "m")
    module.step_mode = "m"
    assert module(torch.tensor([[1.0], [2.0]])).flatten().tolist() == [2.0, 6.0]
    assert "step_mode=m" in repr(module)
    for wrong in ("t", None, "S", 1):
        with pytest.raises(ValueError, match=f"Sum: step_mode must be one of 's', 'm', but got {wrong!r}"):
            module.step_mode = wrong
    assert module.step_mode == "m"
    with pytest.raises(ShapeError, match=r"Sum in step_mode='m' takes a sequence \[T, N, \*\].*\[\]"):
        module(torch.tensor(1.0))


def test_modules_of_one_step_mode():
    class Single(SingleStepModule):
        pass

    assert (Single().step_mode, Sequences().step_mode, StepModule().step_mode) == ("s", "m", "s")
    with pytest.raises(ValueError, match="Single: step_mode must be one of 's', but got 'm'"):
        Single().step_mode = "m"
    with pytest.raises(ValueError, match="Sequences: step_mode must be one of 'm', but got 's'"):
        Sequences().step_mode = "s"
    with pytest.raises(NotImplementedError, match="Sequences has no single_step_forward; use step_mode='m'"):
        Sequences().single_step_forward(torch.rand(2))


def test_memories_are_read_assigned_and_reset():
    module = Sum()
    module(torch.tensor([1.0]))
    assert module.total.tolist() == [2.0]
    assert [name for name, _ in module.named_memories()] == ["total"]
    assert next(module.memories()) is module.total
    module.total = 5.0
    assert module(torch.tensor([1.0])).tolist() == [7.0]
    module.reset()
    assert module.total == 0.0
    module.set_reset_value("total", 3.0)
    assert module.total == 0.0
    module.reset()
    assert module.total == 3.0
    with pytest.raises(ValueError, match="the memory name must be one of 'total', but got 'sum'"):
        module.set_reset_value("sum", 1.0)


def test_a_list_is_reset_to_a_list_of_its_own():
    module = Sum()
    module.register_memory("seen", [])
    for _ in range(2):
        module.reset()
        module.seen.append(1)
        assert module.seen == [1]
    module.reset()
    assert module.seen == []


@pytest.mark.parametrize("name", ["total", "weight", "count", "inner", "step_mode", "training", "reset", "_memories"])
def test_a_name_that_is_taken_is_refused_in_words(name):
    module = Sum()
    with pytest.raises(ValueError, match=f"Sum already has an attribute '{name}'; choose another memory name"):
        module.register_memory(name, 0.0)
    assert [name for name, _ in module.named_memories()] == ["total"]


def test_a_memory_is_listed_and_can_be_deleted():
    module = Sum()
    assert "total" in dir(module)
    del module.total
    assert "total" not in dir(module)
    assert not list(module.named_memories())
    with pytest.raises(AttributeError, match="total"):
        module.total  # noqa: B018  # reading is the point
    module.reset()
    del module.weight
    assert not list(module.parameters())


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Sum' object has no attribute 'totals'"):
        Sum().totals  # noqa: B018  # reading is the point
    with pytest.raises(AttributeError, match="no attribute 'total'"):
        Sum.__new__(Sum).total  # noqa: B018  # before the constructor has run


def test_detach_leaves_what_others_hold():
    module = Sum()
    module.register_memory("pair", (None, 1.0))
    held = module(torch.tensor([1.0]))
    module.pair = (held * 2, 1.0)
    module.detach()
    assert held.grad_fn is not None
    assert module.total.grad_fn is None
    assert module.pair[0].grad_fn is None
    assert module.pair[1] == 1.0
    assert torch.equal(module.total, held)


def test_a_list_that_is_filled_is_empty_after_a_reset():
    module = Sum()
    module.register_memory("queue", [])
    for _ in range(2):
        module.queue.append(1.0)
        assert module.queue == [1.0]
        module.reset()


def test_the_state_moves_and_stays_at_least_single():
    module = Sum()
    module.set_reset_value("total", torch.zeros(2))
    module.reset()
    module.half()
    assert module.weight.dtype == torch.float16
    assert module.total.dtype == torch.float32
    module.double()
    module.reset()
    assert module.total.dtype == torch.float64
    module.total = torch.ones(2, dtype=torch.int64)
    module.half()
    assert module.total.dtype == torch.int64
    module.to("meta")
    assert module.total.is_meta


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_take_the_state_without_its_graph(duplicate):
    module = Sum()
    module(torch.tensor([1.0]))
    module.set_reset_value("total", module.weight * 1.0)
    twin = duplicate(module)
    assert twin.total.grad_fn is None
    assert module.total.grad_fn is not None
    twin(torch.tensor([1.0]))
    assert (module.total.item(), twin.total.item()) == (2.0, 4.0)
    assert set(module.state_dict()) == {"weight", "count"}


def test_replicas_have_dictionaries_of_their_own():
    module = Sum()
    replica = module._replicate_for_data_parallel()
    replica.total = 9.0
    replica.set_reset_value("total", 8.0)
    assert module.total == 0.0
    module.reset()
    assert module.total == 0.0


def test_a_run_inside_the_backward_pass_is_refused_or_allowed():
    x = torch.tensor([1.0], requires_grad=True)
    module = Sum()
    out = checkpoint(module, x, use_reentrant=False)
    with pytest.raises(RecomputeError, match=r"Sum keeps a state and was run again inside the backward pass"):
        out.sum().backward()
    module.reset()
    out = checkpoint(module, x, use_reentrant=False)
    module.reset()  # the state that the first run began with
    with recomputing():
        out.sum().backward()
    assert (x.grad.item(), module.weight.grad.item()) == (2.0, 1.0)
    module.reset()
    out = checkpoint(module, x, use_reentrant=False)
    with pytest.raises(RecomputeError):
        out.sum().backward()


def test_a_module_without_state_may_run_again():
    class Square(MemoryModule):
        def single_step_forward(self, x):
            return x.square().square()

    x = torch.tensor([3.0], requires_grad=True)
    checkpoint(Square(), x, use_reentrant=False).sum().backward()
    assert x.grad.item() == 4 * 27.0


def test_a_backward_inside_a_forward_is_no_recomputation():
    module, x = Sum(), torch.tensor([1.0], requires_grad=True)
    module(x).sum().backward()
    module.detach()
    assert module(x).item() == 4.0


def test_each_thread_allows_recomputations_for_itself():
    """The other thread begins to allow them first and ends last."""
    allowed, ended = threading.Event(), threading.Event()

    def other():
        with recomputing():
            allowed.set()
            ended.wait(10)

    def refused():
        module, x = Sum(), torch.tensor([1.0], requires_grad=True)
        out = checkpoint(module, x, use_reentrant=False)
        with pytest.raises(RecomputeError):
            out.sum().backward()

    thread = threading.Thread(target=other)
    thread.start()
    allowed.wait(10)
    refused()
    ended.set()
    thread.join()
    refused()


def test_an_error_ends_the_permission():
    with pytest.raises(KeyError), recomputing():
        raise KeyError("mine")
    module, x = Sum(), torch.tensor([1.0], requires_grad=True)
    out = checkpoint(module, x, use_reentrant=False)
    with pytest.raises(RecomputeError):
        out.sum().backward()


class Gathering(MemoryModule):
    """Adds what comes to containers of its state."""

    def __init__(self):
        super().__init__()
        self.register_memory("seen", {"lists": [[1]], "count": 0})

    def single_step_forward(self, x):
        self.seen["lists"][0].append(2)
        self.seen["count"] += 1
        return x


def test_containers_of_a_state_are_its_own():
    module = Gathering()
    for _ in range(2):
        assert module.seen == {"lists": [[1]], "count": 0}
        module(torch.ones(1))
        module.reset()


@pytest.mark.parametrize(
    "change",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), nn.Module.double, nn.Module.half],
    ids=["deepcopy", "pickle", "double", "half"],
)
def test_a_state_at_rest_stays_at_rest(change):
    module = Sum()
    module.set_reset_value("total", torch.full((2,), 0.5))
    module.reset()
    module.detach()
    assert at_rest(module)
    module = change(module)
    assert at_rest(module)
    module(torch.ones(2))
    assert not at_rest(module)
