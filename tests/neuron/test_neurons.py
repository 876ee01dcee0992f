"""What every registered neuron does alike: step modes, calls in a row, shapes, precision, words. A new one is tested by
existing."""

import copy
import re

import pytest
import torch
from neuron_cases import (
    ANY_LENGTH,
    BOTH_MODES,
    NEURONS,
    POINTWISE,
    READOUTS,
    assert_same_state,
    joined,
    make,
    one_sample,
    sequence,
    step_by_step,
    steps,
    tensors,
)

import spikescope
from spikescope.errors import ShapeError, StateError
from spikescope.neuron import PSN, IFNode, IntegrateAndFire, LIFNode, ParametricLIFNode, PointwiseNeuron, registry

NARROW = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("cls", [cls for cls in NEURONS if cls not in READOUTS])
def test_the_inputs_of_these_tests_make_it_fire(cls):
    assert len(make(cls, step_mode="m")(sequence(cls)).unique()) > 1


@pytest.mark.parametrize("cls", BOTH_MODES)
def test_single_steps_equal_the_sequence(cls):
    x_seq, whole, single = sequence(cls), make(cls, step_mode="m"), make(cls)
    assert torch.equal(step_by_step(single, x_seq), whole(x_seq))
    if issubclass(cls, PointwiseNeuron):
        assert_same_state(single, whole)


@pytest.mark.parametrize("cut", [1, 3, 6])
@pytest.mark.parametrize("cls", ANY_LENGTH)
def test_a_run_may_be_cut_anywhere(cls, cut):
    x_seq, whole, parts = sequence(cls), make(cls, step_mode="m"), make(cls, step_mode="m")
    got = joined(parts, [parts(x_seq[:cut]), parts(x_seq[cut:])])
    assert torch.equal(got, whole(x_seq))
    assert_same_state(parts, whole)


@pytest.mark.parametrize("cls", [cls for cls in ANY_LENGTH if cls in BOTH_MODES])
def test_the_step_mode_may_change_on_the_way(cls):
    x_seq, whole, mixed = sequence(cls), make(cls, step_mode="m"), make(cls, step_mode="m")
    parts = [mixed(x_seq[:3]), step_by_step(mixed, x_seq[3:])]
    assert torch.equal(joined(mixed, parts), whole(x_seq))


@pytest.mark.parametrize("cls", NEURONS)
def test_samples_do_not_see_each_other(cls):
    x_seq, together, alone = sequence(cls), make(cls, step_mode="m"), make(cls, step_mode="m")
    assert torch.equal(one_sample(together, together(x_seq), slice(1, 2)), one_sample(alone, alone(x_seq[:, 1:2]), ...))


@pytest.mark.parametrize("cls", [cls for cls in ANY_LENGTH if cls in BOTH_MODES])
def test_a_second_call_goes_on_from_the_first(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls)
    node(x_seq)
    before = tensors(node)
    node(x_seq[:1])
    fresh = make(cls, step_mode="m")
    fresh(x_seq[:1])
    after = tensors(node)
    assert before.keys() == after.keys()
    assert any(not torch.equal(after[name], held) for name, held in tensors(fresh).items())


@pytest.mark.parametrize("cls", NEURONS)
def test_reset_starts_the_same_run_again(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls)
    at_rest = dict(node.named_memories())
    first = node(x_seq)
    node.reset()
    assert dict(node.named_memories()) == at_rest
    assert torch.equal(node(x_seq), first)


@pytest.mark.parametrize("cls", BOTH_MODES)
@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_batch_of_another_shape_is_refused_in_words(cls, mode):
    node = make(cls, step_mode=mode)
    x_seq = sequence(cls, 3, 5)
    node(x_seq if mode == "m" else x_seq[0])
    if not tensors(node):
        return  # a whole sequence at once leaves no state behind
    other = sequence(cls, 2, 5)
    words = (
        r"(?s)" + cls.__name__ + r" cannot go on.*N=2, 5.*N=3, 5.*reset_net\(net\) before each batch of other samples"
    )
    with pytest.raises(ShapeError, match=words):
        node(other if mode == "m" else other[0])
    node.reset()
    node(other if mode == "m" else other[0])


@pytest.mark.parametrize("cls", NEURONS)
def test_bad_inputs_are_refused_in_words(cls):
    node = make(cls, step_mode="m")
    with pytest.raises(TypeError, match=rf"{cls.__name__}.*torch\.int64.*x\.float\(\)"):
        node(torch.ones(steps(cls), 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=rf"{cls.__name__}.*torch\.Tensor.*list"):
        node([0.5, 0.25])
    with pytest.raises(ShapeError, match=rf"{cls.__name__} in step_mode='m' takes a sequence.*\[\].*unsqueeze"):
        node(torch.tensor(0.75))
    if "s" in cls.supported_step_modes:
        node.step_mode = "s"
        with pytest.raises(TypeError, match=rf"{cls.__name__}.*torch\.bool"):
            node(torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize("cls", NEURONS)
def test_bad_arguments_are_refused_in_words(cls):
    with pytest.raises(ValueError, match=rf"{cls.__name__}: step_mode must be one of .*'x'"):
        make(cls, step_mode="x")
    with pytest.raises(TypeError, match=rf"{cls.__name__}\(.*got an unexpected keyword argument 'threshold'"):
        make(cls, threshold=1.0)
    if "surrogate_function" in cls.fields:
        with pytest.raises(TypeError, match=rf"{cls.__name__}: surrogate_function must be a module"):
            make(cls, surrogate_function="atan")
        with pytest.raises(TypeError, match=rf"{cls.__name__}: surrogate_function must be a module.*ATan"):
            make(cls, surrogate_function=spikescope.surrogate.ATan)
    if "backend" in cls.fields:
        with pytest.raises(ValueError, match=rf"{cls.__name__}: backend must be one of .*'gpu'"):
            make(cls, backend="gpu")
    for name in (name for name in cls.dynamic if cls.fields[name].init):
        infinite = (float("inf"), torch.tensor([0.5, float("inf")])) if not cls.fields[name].infinite else ()
        for wrong in (float("nan"), float("-inf"), torch.tensor([0.5, float("nan")]), *infinite):
            with pytest.raises(ValueError, match=rf"{cls.__name__}: {name} must be .*(finite|infinity)"):
                make(cls, **{name: wrong})
        for wrong in ("1.0", True, torch.tensor(1)):
            with pytest.raises(TypeError, match=rf"{cls.__name__}: {name} must be"):
                make(cls, **{name: wrong})


@pytest.mark.parametrize("shape", [(1,), (2, 1, 3), (0,), (0, 3), (1, 1), (2, 0)], ids=str)
@pytest.mark.parametrize("cls", NEURONS)
def test_odd_and_empty_shapes(cls, shape):
    node, x_seq = make(cls, step_mode="m"), sequence(cls, *shape)
    out = node(x_seq)
    assert out.shape == (x_seq.shape[1:] if cls in READOUTS else x_seq.shape)
    assert all(held.shape[-len(shape) :] == shape for held in tensors(node).values())


@pytest.mark.parametrize("cls", ANY_LENGTH)
def test_one_step_and_no_step(cls):
    node, x_seq = make(cls, step_mode="m"), sequence(cls)
    single = make(cls)
    assert torch.equal(joined(node, [node(x_seq[:1])]), step_by_step(single, x_seq[:1]))
    before = tensors(node)
    if cls in READOUTS:
        with pytest.raises(ShapeError, match=r"decodes at least one step, but got \[T=0, N=3, 5\]"):
            node(x_seq[:0])
    else:
        assert node(x_seq[:0]).shape == (0, 3, 5)
    assert all(torch.equal(held, before[name]) for name, held in tensors(node).items())


@pytest.mark.parametrize("cls", NEURONS)
def test_memory_layout_does_not_matter(cls):
    x_seq = sequence(cls, 2, 3, 4, 5)
    want = make(cls, step_mode="m")(x_seq)
    batch_last = x_seq.movedim(1, -1).contiguous().movedim(-1, 1)
    strided = torch.stack([x_seq, -x_seq], -1)[..., 0]
    channels_last = x_seq.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x_seq.shape[:2])
    for same in (batch_last, strided, channels_last):
        assert not same.is_contiguous()
        assert torch.equal(make(cls, step_mode="m")(same), want)
    frame = x_seq[:1].expand(x_seq.shape)  # the same frame at every step
    assert torch.equal(make(cls, step_mode="m")(frame), make(cls, step_mode="m")(frame.contiguous()))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("cls", NEURONS)
def test_half_precision_input_is_integrated_in_single_precision(cls, dtype):
    x_seq, node, wide = sequence(cls, dtype=dtype), make(cls, step_mode="m"), make(cls, step_mode="m")
    out, want = node(x_seq), wide(x_seq.float())
    assert out.dtype == dtype
    assert torch.equal(out, want.to(dtype))
    assert all(held.dtype == torch.float32 for held in tensors(node).values())
    assert_same_state(node, wide)
    if cls in BOTH_MODES:
        single = make(cls)
        assert torch.equal(step_by_step(single, x_seq), out)


@pytest.mark.parametrize("cls", NEURONS)
def test_double_precision(cls):
    node, x_seq = make(cls, step_mode="m").double(), sequence(cls, dtype=torch.float64)
    assert node(x_seq).dtype == torch.float64
    assert all(held.dtype == torch.float64 for held in tensors(node).values())


@pytest.mark.parametrize("cls", NEURONS)
def test_training_and_evaluation_give_the_same(cls):
    def outcome(training):
        node, x_seq = make(cls, step_mode="m").train(training), sequence(cls).requires_grad_()
        out = node(x_seq)
        out.square().sum().backward()
        return out, x_seq.grad

    for got, want in zip(outcome(False), outcome(True), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("cls", [cls for cls in NEURONS if "surrogate_function" in cls.fields])
def test_each_node_owns_its_surrogate(cls):
    first, second = make(cls), make(cls)
    assert first.surrogate_function is not second.surrogate_function
    given = copy.deepcopy(first.surrogate_function)
    assert make(cls, surrogate_function=given).surrogate_function is given


@pytest.mark.parametrize("cls", NEURONS)
def test_a_sparse_input_is_refused_in_words(cls):
    with pytest.raises(TypeError, match=r"takes a dense tensor, but got one of layout torch.sparse_coo.*to_dense"):
        make(cls)(torch.zeros(4, 2, 3).to_sparse())


@pytest.mark.filterwarnings("ignore:.*nested tensors")  # a prototype, says PyTorch
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.parametrize("cls", NEURONS)
def test_a_nested_input_is_refused_in_words(cls, layout):
    parts = [torch.zeros(2, 3), torch.zeros(4, 3)]
    given = torch.nested.nested_tensor(parts, layout=layout)
    with pytest.raises(TypeError, match=r"takes a dense tensor, but got a nested one.*to_padded_tensor"):
        make(cls)(given)
    assert given.to_padded_tensor(0.0).shape == (2, 4, 3)


NARROW = [held for held in vars(torch).values() if isinstance(held, torch.dtype) and held.is_floating_point]
NARROW = sorted({held for held in NARROW if held.itemsize < 2}, key=str)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("cls", NEURONS)
def test_floating_numbers_too_narrow_to_add_are_refused_in_words(cls, backend, dtype):
    node = make(cls, **({"backend": backend} if cls in POINTWISE else {}))
    with pytest.raises(TypeError, match=rf"integrates real numbers of 16 bits or more, but got .*{dtype}.*float\(\)"):
        node(torch.empty(4, 2, 3, dtype=dtype))


@pytest.mark.parametrize("cls", NEURONS)
def test_repr_shows_what_is_not_at_its_default(cls):
    node = make(cls)
    shown = repr(node)
    words = shown.replace("(\n  ", ", ").replace(f"{cls.__name__}(", ", ")
    for name, spec in cls.fields.items():
        held = getattr(node, name)
        learned = isinstance(held, torch.nn.Parameter) and not spec.init
        if spec.factory:
            assert f"({name}): " in shown
        elif (name in cls.printed and not learned) or (spec.init and name != "init_tau" and held != spec.default):
            assert f", {name}=" in words
        else:
            assert f", {name}=" not in words


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: IFNode(step_mode="m"), "v_threshold=1.0, v_reset=0.0, detach_reset=False, step_mode=m, backend=auto"),
        (
            lambda: LIFNode(tau=4.0, v_reset=None, backend="torch"),
            "tau=4.0, v_threshold=1.0, v_reset=None, detach_reset=False, step_mode=s, backend=torch",
        ),
        (
            lambda: LIFNode(decay_input=False, store_v_seq=True),
            "tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, detach_reset=False, step_mode=s, backend=auto, "
            "store_v_seq=True",
        ),
        (
            lambda: ParametricLIFNode(init_tau=3.0),
            "tau=3.0, v_threshold=1.0, v_reset=0.0, detach_reset=False, step_mode=s, backend=auto",
        ),
    ],
)
def test_repr_is_one_line_and_the_surrogate(made, words):
    node = made()
    kind = type(node).__name__
    assert repr(node) == f"{kind}(\n  {words}\n  (surrogate_function): Sigmoid(alpha=4.0, spiking=True)\n)"


@pytest.mark.parametrize("cls", NEURONS)
def test_documented(cls):
    doc = cls.__doc__ or ""
    assert ">>>" in doc, f"{cls.__name__} shows no worked example"
    assert re.search(r"\((?:[^()]*\D)?(?:19|20)\d\d\)", doc), f"{cls.__name__} names no source"
    for name in vars(cls).get("__annotations__", {}):
        if name in cls.fields and cls.fields[name].init and cls.fields[name].default is not None:
            assert name in doc or name in PointwiseNeuron.__doc__ + IntegrateAndFire.__doc__ + "step_mode"


@pytest.mark.parametrize("method", ["neuronal_charge", "neuronal_fire", "neuronal_reset"])
def test_a_method_that_nothing_calls_is_refused(method):
    with pytest.raises(TypeError, match=rf"Mine defines {method}, which nothing calls.*step\(p, s, x\)"):
        type("Mine", (PSN,), {method: lambda self, x: x})
    assert "Mine" not in registry


def test_a_base_cannot_be_made():
    with pytest.raises(TypeError, match="IntegrateAndFire is the base of a family"):
        IntegrateAndFire()


def test_a_step_or_charge_must_be_written():
    class Empty(PointwiseNeuron, abstract=True):
        State = IFNode.State

    with pytest.raises(NotImplementedError, match=r"step\(p, s, x\)"):
        Empty.step(None, None, None)
    with pytest.raises(NotImplementedError, match=r"charge\(p, s, x\)"):
        IntegrateAndFire.charge(None, None, None)


def test_worked_values_of_the_contract():
    soft = LIFNode(2.0, False, 0.5, None, step_mode="m", store_v_seq=True)
    assert soft(torch.full((4, 1), 0.6)).flatten().tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(soft.v_seq.flatten(), torch.tensor([0.1, 0.15, 0.175, 0.1875]))
    assert IFNode(v_threshold=0.5)(torch.tensor([0.5, 0.4999])).tolist() == [1, 0], "equality fires"
    leaky = LIFNode(4.0, v_threshold=9.0, v_reset=-1.0, step_mode="m", store_v_seq=True)
    leaky(torch.tensor([[2.0], [0.0]]))  # -1 + 2/4, then -0.5 + (0 + 0.5 - 1)/4 ... leaking towards -1
    assert leaky.v_seq.flatten().tolist() == [-0.5, -0.625]


def test_the_order_of_the_arguments():
    assert list(LIFNode.arguments.parameters) == [
        *("tau", "decay_input", "v_threshold", "v_reset", "surrogate_function", "detach_reset"),
        *("step_mode", "backend", "store_v_seq"),
    ]


def test_bounds_of_the_time_constants():
    for wrong in (1.0, 0.5, -2, torch.tensor([2.0, 1.0])):
        with pytest.raises(ValueError, match="LIFNode: tau must be above 1"):
            LIFNode(tau=wrong)
    with pytest.raises(ValueError, match="ParametricLIFNode: init_tau must be above 1"):
        ParametricLIFNode(init_tau=1)
    assert ParametricLIFNode(init_tau=3.7).tau == pytest.approx(3.7)


def test_the_backend_says_what_it_would_run():
    node = IFNode(backend="torch")
    assert node.implementation(torch.rand(3)).backend == "torch"
    assert "torch" in node.implementation(torch.rand(3)).reason
    assert node.supported_step_mode() == ("s", "m")


def test_v_seq_before_a_run_is_refused_in_words():
    with pytest.raises(StateError, match=r"IFNode has no v_seq: set store_v_seq=True \(now False\)"):
        IFNode().v_seq  # noqa: B018  # reading is the point
    with pytest.raises(StateError, match=r"IFNode has no v_seq: it has not run since it was made or reset"):
        IFNode(store_v_seq=True).v_seq  # noqa: B018


def test_psn_has_no_single_steps():
    with pytest.raises(ValueError, match="PSN: step_mode must be one of 'm', but got 's'"):
        PSN(T=3).step_mode = "s"
    with pytest.raises(NotImplementedError, match="PSN has no single_step_forward; use step_mode='m'"):
        PSN(T=3).single_step_forward(torch.rand(2))
