"""Every registered surrogate against closed forms and laws. A new surrogate is tested by existing."""

import math

import pytest
import torch
from torch import nn

from spikescope.surrogate import registry

SURROGATES = sorted(registry.values(), key=lambda c: c.__name__)
SMOOTH = [c for c in SURROGATES if c.has_primitive()]
NO_STEP = {"PoissonPass", "MultiLevelSpikeCount"}  # forwards something else than the step
LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)

# name: [(arguments, x, slope at x, primitive at x or None)], worked by hand from the formulas of the papers
WORKED = {
    "Sigmoid": [({}, 0.0, 1.0, 0.5), ({}, LN3 / 4, 0.75, 0.75), ({"alpha": 1.0}, -LN2, 2 / 9, 1 / 3)],
    "ATan": [({}, 0.0, 1.0, 0.5), ({}, 1 / math.pi, 0.5, 0.75), ({"alpha": 1.0}, -2 / math.pi, 0.25, 0.25)],
    "PiecewiseQuadratic": [
        ({}, 0.5, 0.5, 0.875),
        ({}, -0.25, 0.75, 0.28125),
        ({"alpha": 2.0}, 0.25, 1.0, 0.875),
        ({}, -3.0, 0.0, 0.0),
        ({}, 3.0, 0.0, 1.0),
        ({}, 0.0, 1.0, 0.5),
    ],
    "PiecewiseExp": [({}, LN2, 0.25, 0.75), ({}, -LN2, 0.25, 0.25), ({"alpha": 2.0}, LN2, 0.25, 0.875)],
    "SoftSign": [
        ({}, 0.0, 1.0, 0.5),
        ({}, 0.5, 0.25, 0.75),
        ({}, -1.5, 0.0625, 0.125),
        ({"alpha": 4.0}, 0.25, 0.5, 0.75),
    ],
    "SuperSpike": [({}, 1.0, 0.25, None), ({}, -3.0, 0.0625, None), ({"alpha": 2.0}, 0.0, 2.0, None)],
    "Erf": [
        ({}, 0.0, 1.1283791670955126, 0.5),
        ({}, 0.5, 0.4151074974205947, 0.9213503964748575),
        ({"alpha": 1.0}, -1.0, 0.20755374871029736, 0.07864960352514256),
    ],
    "NonzeroSignLogAbs": [
        ({}, 1.0, 0.5, LN2),
        ({}, -3.0, 0.25, -LN4),
        ({"alpha": 2.0}, 0.5, 1.0, LN2),
        ({}, 0.0, 1.0, 0.0),
    ],
    "PiecewiseLeakyReLU": [
        ({}, 0.5, 0.5, 0.75),
        ({}, 3.0, 0.01, 1.02),
        ({}, -2.0, 0.01, -0.01),
        ({"w": 2.0, "c": 0.1}, 1.0, 0.25, 0.75),
        ({"w": 2.0, "c": 0.1}, 4.0, 0.1, 1.2),
    ],
    "SquarewaveFourierSeries": [
        ({}, 0.0, 0.5, 0.5),
        ({}, 4 / 3, 0.25, 0.5 + math.sqrt(3) / math.pi),
        ({"n": 3}, 2.0, 0.0, 0.5 + 4 / (3 * math.pi)),
        ({"n": 3, "T_period": 4.0}, -2.0, -2.0, 0.5),
    ],
    "S2NN": [
        ({}, -LN3 / 4, 0.75, 0.25),
        ({}, 1.0, 0.5, math.log(2.00001) + 0.5),
        ({}, 0.0, 1.0, math.log(1.00001) + 0.5),
        ({"beta": 2.0}, 3.0, 0.5, 2 * math.log(4.00001) + 0.5),
        ({"alpha": 1.0}, -LN2, 2 / 9, 1 / 3),
    ],
    "QPseudoSpike": [({}, 0.5, 0.25, 0.75), ({}, -1.5, 0.0625, 0.125), ({"alpha": 3.0}, 1.0, 0.125, 0.875)],
    "LeakyKReLU": [
        ({}, 2.0, 1.0, 2.0),
        ({}, -2.0, 0.0, 0.0),
        ({"leak": 0.1, "k": 3.0}, -2.0, 0.1, -0.2),
        ({"leak": 0.1, "k": 3.0}, 0.0, 3.0, 0.0),
    ],
    "FakeNumericalGradient": [
        ({}, 0.0, 0.3, None),
        ({}, 2.0, 0.3, None),
        ({}, -5.0, 0.2, None),
        ({"alpha": 2.0}, 0.25, 2.0, None),
        ({"alpha": 2.0}, 0.625, 1.6, None),
    ],
    "LogTailedReLU": [
        ({}, -2.0, 0.0, 0.0),
        ({}, 0.5, 1.0, 0.5),
        ({}, math.e, 1 / math.e, 2.0),
        ({}, 4.0, 0.25, 1 + LN4),
        ({"alpha": 0.1}, -2.0, 0.1, -0.2),
        ({"alpha": 0.1}, 0.0, 0.1, 0.0),
    ],
    "Rect": [({}, 0.25, 1.0, 0.75), ({}, 1.0, 0.0, 1.0), ({}, -0.75, 0.0, 0.0), ({"alpha": 2.0}, 0.125, 2.0, 0.75)],
    "DeterministicPass": [({}, -0.7, 1.0, -0.7), ({}, 2.3, 1.0, 2.3)],
    "PoissonPass": [({}, 0.3, 1.0, 0.3), ({}, 1.0, 1.0, 1.0)],
    "MultiLevelSpikeCount": [
        ({}, 2.6, 1.0, 2.6),
        ({}, 5.0, 0.0, 4.0),
        ({}, -1.0, 0.0, 0.0),
        ({"max_spike_count": 6}, 5.0, 1.0, 5.0),
        ({}, 4.0, 1.0, 4.0),
        ({}, 0.0, 1.0, 0.0),
    ],
}


def every(surrogates):
    return pytest.mark.parametrize("cls", surrogates, ids=lambda c: c.__name__)


def odd_fields(cls):
    """No field at its default, none a round number."""
    return {name: 1.37 * cls.fields[name].default + 0.01 for name in cls.dynamic}


def make(cls, **kw):
    return cls(**(cls.example | odd_fields(cls) | kw))


def slope(surrogate, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(surrogate(x).sum(), x)[0]


def inputs(cls, *shape, dtype=torch.float32):
    """Random inputs that the surrogate takes, on both sides of the threshold."""
    torch.manual_seed(3)
    x = torch.rand(shape, dtype=dtype)
    return x if cls.__name__ == "PoissonPass" else 6 * x - 3


def randomness(cls):
    return "error" if cls.pointwise else "different"


def test_every_surrogate_of_the_contract_is_there():
    assert set(WORKED) == set(registry)


@every(SURROGATES)
def test_worked_values(cls):
    assert cls.__name__ in WORKED, f"{cls.__name__} has no row in WORKED, the values that were worked by hand"
    for arguments, at, gradient, primitive in WORKED[cls.__name__]:
        x = torch.tensor([at], dtype=torch.float64)
        surrogate = cls(**(cls.example | arguments))
        assert slope(surrogate, x).item() == pytest.approx(gradient, abs=1e-12)
        if primitive is not None:
            surrogate.spiking = False
            assert surrogate(x).item() == pytest.approx(primitive, abs=1e-12)
        assert (primitive is None) is not cls.has_primitive()


GRID = torch.cat([torch.linspace(-6, 6, 4097, dtype=torch.float64), torch.tensor([-1e30, -1e8, -91, 91, 1e8, 1e30])])


@every(SMOOTH)
@pytest.mark.parametrize("fields", ["odd", "default"])
def test_autograd_of_the_primitive_is_the_gradient(cls, fields):
    """The grid has the threshold itself, and inputs at which a branch that is not taken would overflow."""
    surrogate = make(cls) if fields == "odd" else cls(**cls.example)
    primitive = type(surrogate)(**cls.example, **{n: getattr(surrogate, n) for n in cls.dynamic}, spiking=False)
    x = GRID[GRID.abs() != 0.5 / surrogate.alpha] if cls.__name__ == "Rect" else GRID
    if cls.__name__ == "PoissonPass":
        x = x[(x >= 0) & (x <= 1)]
    torch.testing.assert_close(slope(surrogate, x), slope(primitive, x), rtol=1e-12, atol=1e-14)


@every(SMOOTH)
def test_the_primitive_is_the_integral_of_the_gradient(cls):
    """The midpoint rule: an oracle that knows nothing of autograd."""
    surrogate = make(cls)
    low, high, steps = (0.03, 0.97, 1_000) if cls.__name__ == "PoissonPass" else (-3.31, 2.77, 200_000)
    edges = torch.linspace(low, high, steps + 1, dtype=torch.float64)
    area = slope(surrogate, (edges[1:] + edges[:-1]) / 2).mean() * (high - low)
    ends = type(surrogate).primitive(surrogate.params(), edges[[0, -1]])
    torch.testing.assert_close(area, ends[1] - ends[0], rtol=0, atol=5e-5)  # a jump of the slope costs a step width


@every([c for c in SURROGATES if c.__name__ not in NO_STEP])
def test_forward_is_the_step_with_one_at_the_threshold(cls):
    x = torch.tensor([-1e30, -0.3, -1e-30, -0.0, 0.0, 1e-30, 0.3, 1e30])
    assert make(cls)(x).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


@every(SURROGATES)
def test_without_gradients_there_is_no_node_and_the_spikes_are_the_same(cls, monkeypatch):
    surrogate, x = make(cls), inputs(cls, 40)
    torch.manual_seed(0)
    wanted = surrogate(x)

    def fail(*args):
        raise AssertionError("an autograd function ran where there is no graph")

    monkeypatch.setattr(cls._function, "apply", fail)
    for quiet in (torch.no_grad, torch.inference_mode):
        torch.manual_seed(0)
        with quiet():
            assert torch.equal(surrogate(x), wanted)


@every(SURROGATES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(cls, dtype):
    x = inputs(cls, 5, dtype=dtype).requires_grad_()
    for spiking in (True, False) if cls.has_primitive() else (True,):
        y = make(cls, spiking=spiking)(x)
        assert y.dtype == dtype
        y.sum().backward()
        assert x.grad.dtype == dtype
        assert torch.isfinite(y).all()
        assert torch.isfinite(x.grad).all()


@every(SURROGATES)
def test_a_gradient_in_double_precision_is_not_rounded_on_the_way(cls):
    """Constants that were made in single precision would be off by 1e-8."""
    x = inputs(cls, 41, dtype=torch.float64)
    fields = {name: torch.tensor(held, dtype=torch.float64) for name, held in odd_fields(cls).items()}
    torch.testing.assert_close(slope(make(cls), x), slope(cls(**cls.example, **fields), x), rtol=1e-14, atol=0)


@every(SURROGATES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (3, 1, 7)], ids=str)
def test_shapes(cls, shape):
    x = inputs(cls, *shape)
    surrogate = make(cls)
    assert surrogate(x).shape == shape
    assert slope(surrogate, x).shape == shape


@every([c for c in SURROGATES if c.pointwise])
def test_non_contiguous_input(cls):
    wide = inputs(cls, 5, 14)
    x = wide[:, ::2].t()
    assert not x.is_contiguous()
    surrogate = make(cls)
    assert torch.equal(surrogate(x), surrogate(x.contiguous()))
    assert torch.equal(slope(surrogate, x), slope(surrogate, x.contiguous()))


def away_from_kinks(cls):
    near = {"PoissonPass": [0.13, 0.5, 0.91]}.get(cls.__name__, [-2.9, -1.13, -0.21, 0.17, 0.58, 1.9, 5.7])
    return torch.tensor(near, dtype=torch.float64, requires_grad=True)


@every(SMOOTH)
def test_gradcheck_of_the_primitive_and_its_fields(cls):
    fields = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in odd_fields(cls).values()]

    def run(x, *fields):
        return cls(**cls.example, **dict(zip(cls.dynamic, fields, strict=True)), spiking=False)(x)

    assert torch.autograd.gradcheck(run, (away_from_kinks(cls), *fields))
    if cls.__name__ not in {"DeterministicPass", "PoissonPass", "MultiLevelSpikeCount"}:  # their slope is constant
        assert torch.autograd.gradgradcheck(run, (away_from_kinks(cls), *fields))


@every(SURROGATES)
def test_double_backward_of_the_spike_is_the_slope_of_the_gradient(cls):
    x = away_from_kinks(cls)
    surrogate = make(cls)
    (first,) = torch.autograd.grad((surrogate(x) * x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    step = 1e-6
    before, after = (cls.gradient(surrogate.params(), (x + d).detach()) for d in (-step, step))
    torch.testing.assert_close(
        second, 2 * slope(surrogate, x) + x * (after - before) / (2 * step), rtol=1e-7, atol=1e-8
    )


@every(SURROGATES)
def test_double_backward_is_finite_at_the_threshold_and_far_away(cls):
    far = [0.0, 1.0] if cls.__name__ == "PoissonPass" else [-1e30, -1.0, 0.0, 1.0, 1e30]
    for spiking in (True, False) if cls.has_primitive() else (True,):
        x = torch.tensor(far, requires_grad=True)
        y = make(cls, spiking=spiking)(x)
        (first,) = torch.autograd.grad((y * x.clamp(-1, 1)).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert torch.isfinite(first).all()
        assert torch.isfinite(second).all()


@every(SURROGATES)
def test_vmap_of_grad(cls):
    x = inputs(cls, 6, 5)
    surrogate = make(cls)
    per_sample = torch.func.vmap(torch.func.grad(lambda row: surrogate(row).sum()), randomness=randomness(cls))(x)
    torch.testing.assert_close(per_sample, slope(surrogate, x), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so itself
@every(SURROGATES)
@pytest.mark.slow(keep=3)
def test_compiled(cls):
    torch._dynamo.reset()
    x = inputs(cls, 3, 5)
    surrogate = make(cls)
    compiled = torch.compile(surrogate, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(slope(compiled, x), slope(surrogate, x), rtol=0, atol=0)
    if cls.pointwise:
        assert torch.equal(compiled(x), surrogate(x))
    else:
        assert set(compiled(x).unique().tolist()) == {0.0, 1.0}


@every(SURROGATES)
@pytest.mark.slow(keep=3)
def test_compiled_inference_computes_no_slope(cls):
    torch._dynamo.reset()
    surrogate, x, read = make(cls), inputs(cls, 3, 5), []

    def keep(graph, example):
        called = [node.target for node in graph.graph.nodes if node.op in ("call_function", "call_method")]
        read.append([target for target in called if target not in ("detach", "to")])
        return graph.forward

    compiled = torch.compile(surrogate, fullgraph=True, backend=keep)
    plain = torch.compile(lambda x: cls.spike(surrogate.params(), x), fullgraph=True, backend=keep)
    with torch.no_grad():
        compiled(x)
        plain(x)
    assert read[0] == read[1]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so itself
@every([cls for cls in SURROGATES if cls.pointwise])
@pytest.mark.slow(keep=6)
def test_two_in_a_row_compile_for_numbers_that_change(cls):
    torch._dynamo.reset()
    pair = nn.Sequential(make(cls), make(cls))
    compiled = torch.compile(pair, fullgraph=True, backend="aot_eager", dynamic=True)
    for shift in (0.0, 0.25):
        for surrogate in pair:
            for name in type(surrogate).dynamic:
                setattr(surrogate, name, getattr(surrogate, name) + shift)
        x = inputs(cls, 3, 5)
        torch.testing.assert_close(slope(compiled, x), slope(pair, x), rtol=1e-12, atol=0)


@pytest.mark.slow(keep=2)
@every([cls for cls in SURROGATES if cls.pointwise])
def test_compiled_second_derivatives(cls):
    torch._dynamo.reset()
    x, surrogate = inputs(cls, 3, 5), make(cls)

    def second(x):
        return torch.func.jvp(torch.func.grad(lambda x: (surrogate(x) * x).sum()), (x,), (torch.ones_like(x),))[1]

    compiled = torch.compile(second, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), second(x), rtol=1e-4, atol=1e-5)


def derivative_of(f):
    return torch.func.grad(lambda x: f(x).sum())


def test_compiled_fourth_derivative():
    torch._dynamo.reset()
    x, surrogate = torch.tensor([-0.75, 0.25, 1.0]), registry["ATan"]()

    def fourth(x):
        found = surrogate
        for _ in range(4):
            found = derivative_of(found)
        return found(x)

    compiled = torch.compile(fourth, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), fourth(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["forward", "samples"])
def test_compiled_derivatives_where_fields_learn(mode):
    torch._dynamo.reset()
    x, surrogate = torch.tensor([-0.75, 0.25, 1.0]), registry["Sigmoid"](torch.nn.Parameter(torch.tensor(2.0)))

    def by_alpha(alpha):
        return torch.func.functional_call(surrogate, {"alpha": alpha}, (x,))

    def derivative(alpha):
        if mode == "forward":
            return torch.func.jvp(by_alpha, (alpha,), (torch.ones_like(alpha),))[1]
        return torch.func.vmap(torch.func.grad(lambda x: surrogate(x).sum()))(x)

    alpha = torch.tensor(3.0)
    compiled, wanted = torch.compile(derivative, fullgraph=True, backend="eager"), derivative(alpha)
    assert wanted.count_nonzero() > 0
    torch.testing.assert_close(compiled(alpha), wanted)


@every(SURROGATES)
def test_repr_shows_the_fields(cls):
    assert repr(cls(**cls.example)).startswith(f"{cls.__name__}(")
    made = cls(**cls.example)
    for name, spec in cls.fields.items():
        assert (f"{name}=" in repr(made)) == (spec.init or getattr(made, name) is not None)


@every(SURROGATES)
def test_documented(cls):
    assert ">>>" in cls.__doc__, f"{cls.__name__} shows no worked example"
    assert len(cls.__doc__.splitlines()) < 25
