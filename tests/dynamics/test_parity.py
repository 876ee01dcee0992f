"""The C++ kernels against the eager loop, over the registries of neurons and surrogates."""

from functools import partial

import pytest
import torch
from dynamics_cases import (
    NEURONS,
    SURROGATES,
    assert_close,
    assert_equal,
    assert_same,
    inputs,
    make,
    parity,
    run,
    unround,
)
from torch import nn

from spikescope.dynamics.cpp import native
from spikescope.neuron import AdaptiveLIFNode, ComplementaryLIFNode, IFNode, LIFNode, TernaryLIFNode
from spikescope.surrogate import Sigmoid

HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 5, 7)], ids=["scalar", "channel", "neuron"])
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_with_learnable_fields(cls, shape):
    got = parity(cls, inputs(9, 2, 3, 5, 7), shape)
    assert got.gradients["x"].count_nonzero() > 0


@pytest.mark.slow(keep=4)  # every neuron, with its gradients, is in the law above
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_every_neuron_with_numbers_a_detached_soft_reset_and_potentials(cls):
    wished = {"v_reset": None, "detach_reset": True}
    options = {name: held for name, held in wished.items() if name in cls.arguments.parameters}
    parity(cls, inputs(7, 3, 13) / 3, store_v_seq=True, **options)


@pytest.mark.slow(keep=5)
@pytest.mark.parametrize("spiking", [True, False], ids=["spiking", "smooth"])
@pytest.mark.parametrize("cls", SURROGATES, ids=lambda cls: cls.__name__)
def test_every_surrogate_with_learnable_fields(cls, spiking):
    if not spiking and not cls.has_primitive():
        pytest.skip("it has no smooth form")
    parity(LIFNode, inputs(6, 2, 37), (), lambda: {"surrogate_function": cls(**cls.example, spiking=spiking)})


def test_a_field_of_a_surrogate_per_channel():
    parity(
        LIFNode,
        inputs(5, 2, 3, 4),
        fields=lambda: {"surrogate_function": Sigmoid(nn.Parameter(torch.tensor([2.3, 3.1, 5.7])[:, None]))},
    )


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    "single", [("tau",), ("v_threshold",), ("tau", "v_reset"), ("v_threshold", "v_reset")], ids=str
)
def test_some_fields_are_one_number_and_some_one_per_neuron(single):
    def fields():
        values = {"tau": 2.3, "v_threshold": 0.9, "v_reset": 0.1}
        spread = torch.linspace(0.9, 1.1, 300)
        return {
            name: nn.Parameter(v * (1 if name in single else spread) * torch.ones(())) for name, v in values.items()
        }

    parity(LIFNode, inputs(9, 4, 300), fields=fields)  # several blocks of neurons


@pytest.mark.parametrize("dtype", [torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("cls", [LIFNode, ComplementaryLIFNode], ids=lambda cls: cls.__name__)
def test_dtypes(cls, dtype):
    got = parity(cls, inputs(5, 3, 37, dtype=dtype), (), store_v_seq=True)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    assert got.forward["output"].dtype is got.gradients["x"].dtype is dtype
    assert got.forward["v"].dtype is got.forward["v_seq"].dtype is wide


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 64, 65, 130])
@pytest.mark.parametrize("cls", [LIFNode, AdaptiveLIFNode], ids=lambda cls: cls.__name__)
def test_lengths_about_the_segments_of_the_backward_pass(cls, steps):
    parity(cls, inputs(steps, 3, 5), ())


def test_a_thousand_steps():
    parity(LIFNode, inputs(1000, 11), (), store_v_seq=True)


@pytest.mark.parametrize("size", [0, 1, 37, 255, 256, 257, 1000])
@pytest.mark.parametrize("batch", [1, 3])
def test_sizes_about_a_block(size, batch):
    parity(LIFNode, inputs(4, batch, size), (size,))
    parity(LIFNode, inputs(4, batch, size), ())


def test_one_neuron_without_a_batch():
    parity(LIFNode, inputs(4), ())
    parity(LIFNode, inputs(4, 0, 3, 5), (3, 1))


def test_many_threads_give_what_one_gives():
    x_seq = inputs(16, 8, 700)
    want = parity(LIFNode, x_seq, (700,))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        got = parity(LIFNode, x_seq, (700,))
    finally:
        torch.set_num_threads(before)
    for name, held in want.gradients.items():
        assert_equal(got.gradients[name], held, name)


LAYOUTS = {
    "channels_last": lambda: inputs(5 * 2, 3, 5, 7).to(memory_format=torch.channels_last).unflatten(0, (5, 2)),
    "expanded": lambda: inputs(1, 2, 3, 5, 7).expand(5, -1, -1, -1, -1),
    "time second": lambda: inputs(2, 5, 3, 5, 7).transpose(0, 1),
    "gaps": lambda: inputs(5, 2, 3, 5, 14)[..., ::2],
    "every other step": lambda: inputs(10, 2, 3, 5, 7)[::2],
    "transposed": lambda: inputs(5, 2, 3, 7, 5).transpose(3, 4),
    "channels_last_3d": lambda: inputs(5 * 2, 3, 2, 5, 7).to(memory_format=torch.channels_last_3d).unflatten(0, (5, 2)),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("shape", ["channel", "neuron", "batch"])
def test_layouts(name, shape):
    x_seq = LAYOUTS[name]()
    sample = x_seq.shape[2:]
    fields = {"channel": (sample[0], *(1 for _ in sample[1:])), "neuron": sample, "batch": x_seq.shape[1:]}
    parity(LIFNode, x_seq, tuple(fields[shape]), store_v_seq=True)


@pytest.mark.parametrize("name", ["channels_last", "channels_last_3d", "expanded"])
def test_a_dense_layout_is_kept_without_a_copy(name, monkeypatch):
    x_seq = LAYOUTS[name]()
    node = make(LIFNode, "cpp", store_v_seq=True)
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda *a, **k: pytest.fail("a copy was made"))
    y = node(x_seq)
    assert y[0].stride() == node.v.stride() == node.v_seq[0].stride() == x_seq[0].stride()


@pytest.mark.parametrize("shape", [(3, 1), (1, 3, 1), (2, 3, 5)])
@pytest.mark.parametrize("learn", [False, True])
def test_a_start_that_is_a_tensor_of_fewer_values(shape, learn):
    held = torch.linspace(-0.37, 0.21, 5).repeat(6)[: torch.Size(shape).numel()].reshape(shape)
    for sizes in ((2, 3, 5), (2, 3, 1), (1, 3, 5)):
        if len(shape) < 3 or all(have in (1, want) for have, want in zip(shape, sizes, strict=True)):
            parity(
                LIFNode,
                inputs(6, *sizes),
                fields=lambda: {"v_reset": nn.Parameter(held.clone()) if learn else held.clone()},
                given=False,
            )


@pytest.mark.parametrize("given", [True, False])
def test_fields_in_half_precision(given):
    fields = {
        "v_reset": torch.tensor(0.1234, dtype=torch.float16),
        "tau": torch.tensor([2.3, 3.7, 2.9, 1.4]).bfloat16(),
    }
    parity(LIFNode, inputs(5, 3, 4), fields=fields.copy, given=given)
    node = make(LIFNode, "cpp", {"v_reset": nn.Parameter(torch.tensor(0.1234))}).half()
    node(inputs(5, 3, 4, dtype=torch.float16))
    assert node.v.dtype is torch.float32


def test_a_start_wider_than_the_state_is_the_eager_loops():
    fields = {"v_reset": torch.tensor(0.1234, dtype=torch.float64)}
    x_seq = inputs(5, 3, 4)
    assert make(LIFNode, "auto", fields).implementation(x_seq) == ("torch", "its state is wider than torch.float32")
    with pytest.raises(RuntimeError, match="LIFNode cannot run on the backend 'cpp': its state is wider than"):
        make(LIFNode, "cpp", fields)(x_seq)


@pytest.mark.parametrize("cls", [LIFNode, AdaptiveLIFNode, TernaryLIFNode], ids=lambda cls: cls.__name__)
def test_state_is_carried_over_calls_with_its_gradient(cls):
    x_seq = inputs(9, 2, 37)
    want = parity(cls, x_seq, (), store_v_seq=True)
    got = parity(cls, x_seq, (), calls=4, store_v_seq=True)
    for name, held in want.forward.items():
        assert_equal(got.forward[name], held, name)
    for name, held in want.gradients.items():
        assert_close(got.gradients[name], held, name)


def test_single_steps_are_the_sequence():
    x_seq = inputs(6, 2, 37)
    node = make(LIFNode, "cpp", store_v_seq=True)
    unround(node, ())
    want = run(node, x_seq)
    node.reset()
    node.step_mode = "s"
    x = x_seq.clone().requires_grad_()
    y = torch.stack([node(step) for step in x])
    assert_equal(y, want.forward["output"], "output")
    assert_equal(node.v_seq, want.forward["v_seq"], "v_seq")
    loss = sum((h.double() * inputs(*h.shape, dtype=torch.float64, seed=31)).sum() for h in (y, node.v, node.v_seq))
    wanted = {"x": x} | dict(node.named_parameters())
    for (name, _), held in zip(wanted.items(), torch.autograd.grad(loss, list(wanted.values())), strict=True):
        assert_close(held, want.gradients[name], name)


@pytest.mark.slow(keep=8)
@pytest.mark.parametrize("shape", [None, (), (3, 5, 7)], ids=["number", "scalar", "neuron"])
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_one_step_backwards_has_the_bits_of_the_kernel_of_sequences(cls, shape, monkeypatch):
    def found(given, kept, dtype):
        node = make(cls, "cpp", store_v_seq=kept)
        unround(node, shape)
        return run(node, inputs(1, 40, 3, 5, 7, dtype=dtype), given).gradients

    cases = [(True, True, torch.float32), (False, False, torch.float32), (True, False, torch.bfloat16)]
    native._known_backward.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(native, "_backward_kernel", partial(_of_sequences, native._backward_kernel))
        want = [found(*case) for case in cases]
    native._known_backward.cache_clear()
    for case, held in zip(cases, want, strict=True):
        for name, grad in found(*case).items():
            assert_equal(grad, held[name], f"gradient of {name}")


def _of_sequences(kernel, *what):
    return kernel(*what[:-1], False)


def test_gradients_of_a_part_of_the_results():
    x_seq = inputs(5, 3, 37)
    for pick in (
        lambda y, node: y[3],
        lambda y, node: node.v,
        lambda y, node: node.v_seq[2],
        lambda y, node: y[0, 1:2],
    ):
        found = []
        for backend in ("torch", "cpp"):
            node = make(AdaptiveLIFNode, backend, store_v_seq=True)
            unround(node, ())
            x = x_seq.clone().requires_grad_()
            y = node(x)
            wanted = [x, *node.parameters()]
            found.append(torch.autograd.grad(pick(y, node).sum(), wanted, allow_unused=True, materialize_grads=True))
        for got, want in zip(found[1], found[0], strict=True):
            assert_close(got, want, "gradient")


def test_not_a_number_and_infinity_pass_through():
    x_seq = inputs(4, 12)
    x_seq[1, ::3], x_seq[1, 1::3] = torch.nan, torch.inf
    for cls in (IFNode, LIFNode, TernaryLIFNode):
        nodes = [make(cls, backend, store_v_seq=True) for backend in ("torch", "cpp")]
        want, got = (node(x_seq) for node in nodes)
        assert_equal(got, want, "output")
        assert_equal(nodes[1].v_seq, nodes[0].v_seq, "v_seq")
    assert_same(nodes[0], run(nodes[1], inputs(4, 12)), run(nodes[0], inputs(4, 12)))
