"""The state of every registered neuron: copies, devices, precisions, `v_seq`; and its fields, of every kind."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from neuron_cases import (
    ANY_LENGTH,
    BOTH_MODES,
    NEURONS,
    POINTWISE,
    assert_same_state,
    make,
    sequence,
    step_by_step,
    tensors,
)
from torch import nn

from spikescope.errors import ShapeError, StateError
from spikescope.neuron import HalfThresholdIFNode, IFNode, LIAFNode, LIFNode, NonSpikingIFNode, ParametricLIFNode

STATEFUL = [cls for cls in ANY_LENGTH if dict(make(cls).named_memories())]


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("cls", STATEFUL)
def test_a_copy_goes_on_alike_and_apart(cls, duplicate):
    node, x_seq = make(cls, step_mode="m"), sequence(cls, length=6)
    node(x_seq[:3].clone().requires_grad_())
    twin = duplicate(node)
    assert all(held.grad_fn is None for held in tensors(twin).values())
    assert_same_state(twin, node)
    before = {name: held.clone() for name, held in tensors(twin).items()}
    later = node(x_seq[3:])
    assert all(torch.equal(held, before[name]) for name, held in tensors(twin).items()), "the copy ran along"
    assert torch.equal(twin(x_seq[3:]), later)
    twin.reset()
    assert tensors(node)
    for own, others in zip(node.parameters(), twin.parameters(), strict=True):
        assert own is not others


@pytest.mark.parametrize("cls", POINTWISE)
def test_a_copy_with_v_seq_and_tensor_fields_after_a_forward_with_gradients(cls):
    node = make(cls, step_mode="m", store_v_seq=True)
    if "v_threshold" in cls.fields and cls.fields["v_threshold"].init:
        node.v_threshold = 1.5 * torch.ones(5, requires_grad=True)  # no leaf: deepcopy refuses it as it is
    node(sequence(cls).requires_grad_())
    twin = copy.deepcopy(node)
    assert torch.equal(twin.v_seq, node.v_seq)
    assert twin.v_seq.grad_fn is None
    assert node.v_seq.grad_fn is not None


@pytest.mark.parametrize("cls", NEURONS)
def test_the_state_is_in_no_state_dict(cls):
    node = make(cls, step_mode="m")
    before = set(node.state_dict())
    node(sequence(cls))
    assert set(node.state_dict()) == before
    assert not before & set(dict(node.named_memories()))
    assert not list(node.buffers())
    make(cls).load_state_dict(node.state_dict())


@pytest.mark.parametrize("cls", STATEFUL)
def test_the_state_moves_with_the_module_and_stays_wide(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls, length=6)
    node(x_seq[:3])
    node.half()
    assert all(held.dtype == torch.float32 for held in tensors(node).values())
    node.to(torch.float64)
    assert all(held.dtype == torch.float64 for held in tensors(node).values())
    assert node(x_seq[3:].double()).dtype == torch.float64
    node.to("meta")
    assert all(held.is_meta for held in tensors(node).values())


@pytest.mark.parametrize("cls", STATEFUL)
def test_named_memories_and_detach(cls):
    node = make(cls, step_mode="m")
    node(sequence(cls).requires_grad_())
    held = tensors(node)
    assert list(node.memories()) == [value for _, value in node.named_memories()]
    assert held
    assert any(value.grad_fn is not None for value in held.values())
    graphs = {name: value.grad_fn for name, value in held.items()}
    node.detach()
    assert all(value.grad_fn is None for value in tensors(node).values())
    assert all(held[name].grad_fn is graph for name, graph in graphs.items()), "another holder lost its graph"
    assert all(torch.equal(value, held[name]) for name, value in tensors(node).items())


@pytest.mark.parametrize("cls", POINTWISE)
def test_the_state_can_be_read_and_assigned(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls, length=6)
    node(x_seq[:3])
    twin = make(cls, step_mode="m")
    for name, held in node.named_memories():
        setattr(twin, name, held)
    assert torch.equal(twin(x_seq[3:]), node(x_seq[3:]))


@pytest.mark.parametrize("cls", POINTWISE)
def test_v_seq_of_a_sequence(cls):
    node, x_seq, plain = make(cls, step_mode="m"), sequence(cls), make(cls, step_mode="m")
    out = node(x_seq)
    with pytest.raises(StateError, match=rf"{cls.__name__} has no v_seq: set store_v_seq=True \(now False\)"):
        node.v_seq  # noqa: B018  # reading is the point
    node.reset()
    node.store_v_seq = True
    assert torch.equal(node(x_seq), out)
    assert node.v_seq.shape == x_seq.shape
    assert torch.equal(node.v_seq[-1], node.v)
    for t, x in enumerate(x_seq):
        plain(x.unsqueeze(0))
        assert torch.equal(node.v_seq[t], plain.v)
    node(x_seq[:2])
    assert len(node.v_seq) == 2, "a multi-step call writes its own v_seq"


@pytest.mark.parametrize("cls", [cls for cls in POINTWISE if cls in BOTH_MODES])
def test_v_seq_of_single_steps_grows_until_reset(cls):
    node, whole, x_seq = make(cls, store_v_seq=True), make(cls, step_mode="m", store_v_seq=True), sequence(cls)
    whole(x_seq)
    node.step_mode = "s"
    for t, x in enumerate(x_seq):
        node(x)
        if t % 3 == 1:
            assert len(node.v_seq) == t + 1  # reading in between changes nothing
    assert torch.equal(node.v_seq, whole.v_seq)
    node.reset()
    node(x_seq[0])
    assert torch.equal(node.v_seq, whole.v_seq[:1])


@pytest.mark.parametrize("cls", POINTWISE)
def test_gradients_flow_through_v_seq(cls):
    grads = []
    for mode in ("m", "s"):
        node, x_seq = make(cls, store_v_seq=True, step_mode="m"), sequence(cls).requires_grad_()
        node(x_seq) if mode == "m" else step_by_step(node, x_seq)
        node.v_seq.square().sum().backward()
        grads.append(x_seq.grad)
    assert grads[0].any()
    torch.testing.assert_close(*grads)


def kinds(number):
    """The same number as everything that a field can be, for steps of shape [3, 5]."""
    full = torch.full((5,), number)
    return [
        *(torch.tensor(number), torch.full((1,), number), full, full.expand(3, 5).clone()),
        *(nn.Parameter(torch.tensor(number)), nn.Parameter(full.clone()), torch.full((5, 2), number)[:, 0]),
        *([int(number)] if number == int(number) else []),
    ]


@pytest.mark.slow(keep=4)  # every neuron with fields of several shapes, and their gradients, is in test_parity
@pytest.mark.parametrize("cls", POINTWISE)
def test_fields_of_every_kind_give_the_same(cls):
    numbers = {
        name: held
        for name in cls.dynamic
        if cls.fields[name].init and isinstance(held := getattr(make(cls), name), float)
    }
    want = {}
    for name, given in numbers.items():
        number = torch.tensor(given).item()  # one that single precision has exactly
        for held in [number, *kinds(number)]:
            node, x_seq = make(cls, step_mode="m", **{name: held}), sequence(cls).requires_grad_()
            out = node(x_seq)
            (out.square().sum() + node.v.sum()).backward()
            want.setdefault(name, (out, x_seq.grad))
            assert torch.equal(out, want[name][0]), f"{name} as {held!r}"
            torch.testing.assert_close(x_seq.grad, want[name][1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", POINTWISE)
def test_a_field_that_does_not_fit_is_refused_in_words(cls):
    for name in (name for name in cls.dynamic if cls.fields[name].init):
        number = getattr(make(cls), name)
        if not isinstance(number, float):
            continue
        node = make(cls, step_mode="m", **{name: torch.full((4,), number)})
        words = rf"{cls.__name__}: {name} has the shape \[4\], which does not broadcast.*\[N=3, 5\]"
        with pytest.raises(ShapeError, match=words):
            node(sequence(cls, 3, 5))
        with pytest.raises(ShapeError, match=name):  # wider than one step: it would grow the batch
            make(cls, step_mode="m", **{name: torch.full((2, 1, 5), number)})(sequence(cls, 1, 5))


def test_each_neuron_keeps_to_its_own_number():
    thresholds = torch.tensor([0.5, 1.5, 2.5])
    node = make(IFNode, v_threshold=thresholds, v_reset=torch.tensor([-1.0, 0.0, 0.25]), step_mode="m")
    out = node(torch.tensor([[1.0, 1.0, 1.0], [1.25, 1.25, 1.25]]))
    assert out.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]  # H = 0, 1, 1.25 and 1.25, 2.25, 2.5
    assert node.v.tolist() == [-1.0, 0.0, 0.25]


def test_per_channel_fields():
    tau = torch.tensor([2.0, 4.0, 8.0]).reshape(3, 1, 1)
    node, x = make(LIFNode, tau=tau, v_threshold=9.0), torch.rand(2, 3, 4, 5)
    node(x)
    for channel, number in enumerate((2.0, 4.0, 8.0)):
        alone = make(LIFNode, tau=number, v_threshold=9.0)
        alone(x[:, channel])
        assert torch.equal(node.v[:, channel], alone.v)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "after compiled code"])
def test_a_field_edited_before_the_first_call_is_followed(compiled):
    if compiled:  # from then on the numbers that change are inputs of graphs
        torch.compile(LIFNode(), backend="eager")(torch.rand(2))
    node = make(LIFNode)
    node.v_reset = -0.5
    assert node.v == -0.5
    node.v_reset = None
    assert node.v == 0.0
    node.v_reset = torch.tensor([0.25, 0.5])
    assert node.v is None, "known at the first input"
    node(torch.tensor([0.25, 0.5]))
    assert node.v.tolist() == [0.375, 0.75]  # r + (x - (r - r)) / 2


def test_a_field_edited_later_leaves_the_state_alone():
    node = make(LIFNode, v_threshold=9.0)
    node(torch.tensor([1.0]))
    node.v_reset = -1.0
    assert node.v.tolist() == [0.5]
    node.reset()
    assert node.v == -1.0
    node.v = 0.25
    node.v_reset = 0.0
    assert node.v == 0.25, "a state that was set is not at rest"


def test_an_edited_decode_or_threshold_is_followed():
    read = make(NonSpikingIFNode)
    read.decode = "max-mem"
    assert read(torch.tensor([-1.0])).tolist() == [-1.0]
    half = make(HalfThresholdIFNode)
    half.v_threshold = 3.0
    assert half.v == 1.5


def test_learnable_fields_are_parameters_and_numbers_take_their_place():
    node = make(LIFNode, tau=nn.Parameter(torch.tensor(3.0)))
    assert list(dict(node.named_parameters())) == ["tau"]
    node.tau = 2.5
    assert not list(node.parameters())
    node.tau = nn.Parameter(torch.tensor(2.25))
    assert node.state_dict()["tau"].item() == 2.25
    assert "tau=2.25 (learnable scalar)" in repr(node)
    assert make(ParametricLIFNode).w.requires_grad


def test_replicas_of_data_parallel_have_a_state_of_their_own():
    node = make(LIFNode, store_v_seq=True)
    node(torch.rand(3))
    replica = node._replicate_for_data_parallel()
    before = node.v
    replica(torch.rand(3))
    replica.set_reset_value("v", 7.0)
    assert node.v is before
    assert len(node.v_seq) == 1
    node.reset()
    assert node.v == 0.0


def test_v_seq_moves_with_the_module():
    node = make(LIFNode, step_mode="m", store_v_seq=True)
    node(torch.rand(2, 3))
    assert node.half().v_seq.dtype == torch.float32
    assert node.double().v_seq.dtype == torch.float64
    assert node.to("meta").v_seq.is_meta


def test_without_v_seq_a_node_says_so_to_hasattr_and_in_words():
    node = LIFNode()
    assert not hasattr(node, "v_seq")
    with pytest.raises(AttributeError, match="has no v_seq: set store_v_seq=True"):
        node.v_seq  # noqa: B018  # the access is what is tested


def test_v_seq_may_be_a_list_that_a_hook_fills():
    node = LIFNode()
    node.v_seq = []
    hook = node.register_forward_hook(lambda module, args, y: module.v_seq.append(module.v))
    node(torch.rand(2, 3)), node(torch.rand(2, 3))
    assert len(node.v_seq) == 2
    node(torch.rand(2, 3, requires_grad=True))
    hook.remove()
    for copied in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert torch.equal(torch.stack(copied.v_seq), torch.stack(node.v_seq))
    node.store_v_seq = True
    node.reset()
    node(torch.rand(2, 3))
    assert node.v_seq.shape == (1, 2, 3)


def test_a_reset_value_that_was_set_is_kept():
    node = LIFNode()
    node.set_reset_value("v", 0.25)
    node(torch.ones(2))
    node.reset()
    assert node.v == 0.25
    node.step_mode, node.backend, node.v_threshold = "m", "torch", 0.7  # none of which the value at rest follows
    node.reset()
    assert node.v == 0.25
    node.v_reset = -0.5  # the field that the value at rest follows
    node.reset()
    assert node.v == -0.5
    node.set_reset_value("v", torch.full((2,), 0.2))
    node.v_reset = -0.1
    node.reset()
    assert node.v == -0.1


def test_a_module_among_the_options_is_not_kept_alive():
    act = nn.PReLU()
    node, gone = LIAFNode(act, threshold_related=False, step_mode="m"), weakref.ref(act)
    node(torch.rand(2, 3))
    del node, act
    gc.collect()
    assert gone() is None


def test_storing_potentials_step_by_step_is_compiled_a_few_times_at_most():
    node = LIFNode(store_v_seq=True)
    compiled = torch.compile(node, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for _ in range(2):
            node.reset()
            for _ in range(torch._dynamo.config.recompile_limit + 2):
                compiled(torch.rand(3))
    assert node.v_seq.shape == (torch._dynamo.config.recompile_limit + 2, 3)
    torch._dynamo.reset()
