"""What all surrogates share: fields that are edited or learned, the smooth mode, copies, and refusals."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from spikescope import functional, neuron
from spikescope.surrogate import (
    FakeNumericalGradient,
    MultiLevelSpikeCount,
    PiecewiseLeakyReLU,
    PoissonPass,
    QPseudoSpike,
    Sigmoid,
    SquarewaveFourierSeries,
    SuperSpike,
    registry,
)

SURROGATES = sorted(registry.values(), key=lambda c: c.__name__)
LEARNING = [c for c in SURROGATES if c.has_primitive() and c.dynamic]
WITHOUT = [c for c in SURROGATES if not c.has_primitive()]


def every(surrogates):
    return pytest.mark.parametrize("cls", surrogates, ids=lambda c: c.__name__)


def parameters(cls, shape=(), dtype=torch.float64):
    return {
        name: nn.Parameter(torch.full(shape, 1.37 * cls.fields[name].default + 0.01, dtype=dtype))
        for name in cls.dynamic
    }


def slope(surrogate, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(surrogate(x).sum(), x)[0]


def test_a_learned_alpha_gets_the_gradient_of_the_primitive():
    """d sigma(alpha x) / d alpha = x s (1 - s), and s(1.25) = 0.7773 at x = 0.5, alpha = 2.5."""
    surrogate = Sigmoid(alpha=nn.Parameter(torch.tensor(2.5)))
    surrogate(torch.tensor([0.5])).backward()
    assert surrogate.alpha.grad.item() == pytest.approx(0.5 * 0.777300 * 0.222700, abs=1e-6)


@every(LEARNING)
def test_learned_fields_against_finite_differences(cls):
    x = torch.tensor([-2.9, -1.13, -0.21, 0.17, 0.58, 1.9, 5.7], dtype=torch.float64)
    weight = torch.linspace(0.4, 1.9, 7, dtype=torch.float64)
    learned = parameters(cls)
    surrogate = cls(**cls.example, **learned)
    y = surrogate(x)
    assert torch.equal(y, cls(**cls.example)(x))  # the way of the gradient adds nothing to the spike
    (y * weight).sum().backward()
    for name, held in learned.items():
        step = 1e-6

        def smooth(change, name=name):
            now = {n: v.detach() + (change if n == name else 0) for n, v in learned.items()}
            return (cls(**cls.example, **now, spiking=False)(x) * weight).sum()

        numeric = (smooth(step) - smooth(-step)) / (2 * step)
        torch.testing.assert_close(held.grad, numeric, rtol=1e-7, atol=1e-8)


@every(LEARNING)
def test_a_field_per_channel_equals_one_surrogate_a_channel(cls):
    torch.manual_seed(5)
    x = 4 * torch.rand(3, 2, dtype=torch.float64) - 2
    first, second = ({n: v.detach() * factor for n, v in parameters(cls).items()} for factor in (1.0, 1.3))
    both = cls(**cls.example, **{n: torch.stack([first[n], second[n]]) for n in first})
    want = torch.stack(
        [slope(cls(**cls.example, **f), c) for f, c in zip((first, second), x.unbind(1), strict=True)], 1
    )
    assert torch.equal(slope(both, x), want)


@every(LEARNING)
@pytest.mark.parametrize("spiking", [True, False])
def test_fields_in_single_precision_keep_a_half_precision_input(cls, spiking):
    surrogate = cls(**cls.example, **parameters(cls, (1,), torch.float32), spiking=spiking)
    x = torch.tensor([[-0.7], [0.4]], dtype=torch.float16, requires_grad=True)
    y = surrogate(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == torch.float16
    assert all(p.grad.dtype == torch.float32 for p in surrogate.parameters())


@pytest.mark.slow(keep=3)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so itself
@every(LEARNING)
def test_learned_fields_compile_and_vmap(cls):
    torch._dynamo.reset()
    surrogate = cls(**cls.example, **parameters(cls, dtype=torch.float32))
    held = dict(surrogate.named_parameters())
    x = torch.linspace(-1.7, 2.1, 6).reshape(3, 2)

    def loss(held, row):
        return (torch.func.functional_call(surrogate, held, (row,)) * torch.tensor([0.3, 0.8])).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(held, x)
    compiled = torch.compile(surrogate, fullgraph=True, backend="aot_eager")
    (compiled(x) * torch.tensor([0.3, 0.8])).sum().backward()
    for name, parameter in held.items():
        torch.testing.assert_close(per_sample[name].sum(), parameter.grad)
        assert per_sample[name].shape == (3,)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo does so itself
class EndsInItsDtype(Sigmoid):
    @staticmethod
    def spike(p, x):
        return (x >= 0).float().to(x.dtype)


@pytest.mark.parametrize(
    "make", [EndsInItsDtype, lambda: neuron.IFNode(surrogate_function=EndsInItsDtype(), backend="torch")]
)
def test_a_spike_that_ends_in_its_own_dtype_keeps_its_gradient_in_compiled_code(make):
    torch.compiler.reset()
    module, found = make(), []
    for call in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        x = torch.tensor([-0.75, 0.25, 1.5], requires_grad=True)
        functional.reset_net(module)
        call(x).sum().backward()
        found.append(x.grad)
    assert found[0].count_nonzero() == 3
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("how", ["eager", "compiled", "in a neuron"])
def test_an_edited_alpha_acts_on_the_next_forward(how):
    torch._dynamo.reset()
    surrogate = Sigmoid()
    run = {
        "eager": surrogate,
        "compiled": torch.compile(surrogate, fullgraph=True, backend="eager"),
        "in a neuron": neuron.IFNode(v_threshold=0.0, v_reset=None, surrogate_function=surrogate),
    }[how]
    for alpha in [0.5 + 0.3 * k for k in range(12)]:
        surrogate.alpha = alpha
        if how == "in a neuron":
            run.reset()
        assert slope(run, torch.zeros(2)).tolist() == pytest.approx([alpha / 4] * 2)  # s(0) (1 - s(0)) = 1/4


def test_spiking_mode_can_be_switched():
    surrogate = Sigmoid(alpha=4.0)
    x = torch.tensor([0.25])
    assert surrogate(x).item() == 1
    surrogate.set_spiking_mode(False)
    assert surrogate(x).item() == pytest.approx(0.731059, abs=1e-6)  # s(1)
    surrogate.spiking = True
    assert surrogate(x).item() == 1


@every(WITHOUT)
def test_no_primitive_no_smooth_mode(cls):
    with pytest.raises(ValueError, match=rf"{cls.__name__} .*no primitive.*spiking=False.*Sigmoid"):
        cls(spiking=False)
    surrogate = cls()
    with pytest.raises(ValueError, match="no primitive"):
        surrogate.set_spiking_mode(False)
    assert surrogate.spiking is True
    with pytest.raises(ValueError, match="a learnable alpha needs"):
        cls(alpha=nn.Parameter(torch.tensor(1.0)))
    assert slope(cls(alpha=torch.tensor(1.5)), torch.zeros(1)).item() == 1.5  # a tensor that does not learn is fine


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@every(SURROGATES)
def test_copies(cls, how):
    fields = parameters(cls) if cls.has_primitive() else {n: v.detach() for n, v in parameters(cls).items()}
    surrogate = cls(**cls.example, **fields)
    x = torch.linspace(0.03, 0.97, 9, dtype=torch.float64, requires_grad=True)
    net = nn.Sequential(surrogate)
    net(x).sum().backward()
    (copied,) = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}[how](net)
    assert type(copied) is cls
    assert repr(copied) == repr(surrogate)
    assert torch.equal(slope(copied, x), slope(surrogate, x))
    assert {n: p.data_ptr() for n, p in copied.named_parameters()}.keys() == dict(surrogate.named_parameters()).keys()
    for name in cls.dynamic:  # a copy of its own
        setattr(copied, name, getattr(copied, name).detach() * 2)
        assert not torch.equal(getattr(copied, name), getattr(surrogate, name)) or not getattr(surrogate, name).any()


@pytest.mark.slow(keep=6)
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@every([c for c in SURROGATES if c.pointwise])
def test_copies_of_a_neuron_that_holds_one(cls, how):
    node = neuron.LIFNode(surrogate_function=cls(**cls.example), step_mode="m")
    x = torch.linspace(0.1, 2.9, 12).reshape(4, 3).requires_grad_()
    node(x).sum().backward()
    copied = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}[how](node)
    assert copied.surrogate_function is not node.surrogate_function
    assert repr(copied.surrogate_function) == repr(node.surrogate_function)
    assert torch.equal(copied(x), node(x))


def pickled(module):
    return pickle.loads(pickle.dumps(module))


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_arguments_in_the_order_of_the_contract():
    given = {
        "PiecewiseLeakyReLU": [("w", 0.7), ("c", 0.2)],
        "SquarewaveFourierSeries": [("n", 5), ("T_period", 7.5)],
        "S2NN": [("alpha", 3.3), ("beta", 0.6)],
        "LeakyKReLU": [("leak", 0.15), ("k", 1.6)],
        "MultiLevelSpikeCount": [("max_spike_count", 6)],
    }
    for name, arguments in given.items():
        surrogate = registry[name](*(held for _, held in arguments), True)
        assert [(n, getattr(surrogate, n)) for n in surrogate.arguments.parameters] == [*arguments, ("spiking", True)]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: QPseudoSpike(alpha=1.0), ValueError, r"QPseudoSpike: alpha must be above 1\.0, but got 1\.0"),
        (lambda: QPseudoSpike(alpha=torch.tensor([2.0, 1.0])), ValueError, "above 1.0"),
        (lambda: Sigmoid(alpha=0.0), ValueError, r"Sigmoid: alpha must be above 0\.0, but got 0\.0"),
        (lambda: Sigmoid(alpha=float("inf")), ValueError, "finite"),
        (lambda: Sigmoid(alpha="4"), TypeError, "alpha must be a number, a tensor or an nn.Parameter, but got '4'"),
        (lambda: Sigmoid(alpha=torch.tensor(4)), TypeError, "floating point tensor, but got dtype torch.int64"),
        (lambda: Sigmoid(spiking=1), TypeError, "spiking must be bool, but got 1"),
        (lambda: Sigmoid(beta=1.0), TypeError, "unexpected keyword argument 'beta'"),
        (lambda: PiecewiseLeakyReLU(w=0.0), ValueError, "w must be above 0.0"),
        (lambda: PiecewiseLeakyReLU(c=float("nan")), ValueError, "c must be finite"),
        (lambda: SquarewaveFourierSeries(n=1), ValueError, "n must be at least 2, but got 1"),
        (lambda: SquarewaveFourierSeries(n=2.0), TypeError, "n must be int, but got 2.0"),
        (lambda: SquarewaveFourierSeries(T_period=0), ValueError, "T_period must be above 0.0"),
        (MultiLevelSpikeCount, TypeError, "missing 1 required positional argument: 'max_spike_count'"),
        (lambda: MultiLevelSpikeCount(0), ValueError, "max_spike_count must be at least 1, but got 0"),
        (lambda: MultiLevelSpikeCount(2.5), TypeError, "max_spike_count must be int, but got 2.5"),
        (
            lambda: MultiLevelSpikeCount(4, grad_window=(4, -1)),
            ValueError,
            r"lower to a higher number, but got \(4, -1\)",
        ),
        (lambda: FakeNumericalGradient(-0.3), ValueError, "alpha must be above 0.0, but got -0.3"),
        (lambda: SuperSpike(0), ValueError, "alpha must be above 0.0"),
    ],
)
def test_bad_arguments_are_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_counted_spikes_are_rounded_to_whole_numbers_within_the_range():
    x = torch.tensor([-2.0, 0.49, 0.51, 1.5, 2.5, 2.51, 3.2, 9.0])
    assert MultiLevelSpikeCount(3)(x).tolist() == [0, 0, 1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("window", [(-1.0, 4.0), (0.5, 2.0), None])
def test_counted_spikes_have_the_slope_one_in_the_window_that_is_given(window):
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 2.0, 2.5, 4.0, 4.5], requires_grad=True)
    first, last = window or (0.0, 4.0)
    count = MultiLevelSpikeCount(4, True, window)
    (slope,) = torch.autograd.grad(count(x).sum(), x)
    assert slope.equal(((first <= x) & (x <= last)).float())
    (slope,) = torch.autograd.grad(count.spiking_function(x, 4, grad_min=first, grad_max=last).sum(), x)
    assert slope.equal(((first <= x) & (x <= last)).float())
    assert count(x).equal(MultiLevelSpikeCount(4)(x))


def test_drawn_spikes_have_the_given_mean():
    torch.manual_seed(11)
    x = torch.tensor([[0.0], [0.17], [0.83], [1.0]]).expand(4, 20_000)
    y = PoissonPass()(x)
    assert set(y.unique().tolist()) == {0.0, 1.0}
    deviation = (x * (1 - x) / 20_000).sqrt()[:, 0]
    assert ((y.mean(1) - x[:, 0]).abs() <= 4 * deviation).all()


@pytest.mark.parametrize("wrong", [-0.01, 1.01, float("nan")])
def test_drawn_spikes_refuse_what_is_no_probability(wrong):
    surrogate = PoissonPass()
    with pytest.raises(ValueError, match=r"PoissonPass takes x as the probability.*from 0 to 1.*but got.*clamp"):
        surrogate(torch.tensor([0.5, wrong]))
    surrogate.spiking = False
    torch.testing.assert_close(surrogate(torch.tensor([wrong])), torch.tensor([wrong]), equal_nan=True)


def test_whole_numbers_give_spikes_in_their_own_dtype():
    x = torch.tensor([-3, 0, 2])
    assert Sigmoid()(x).dtype == torch.int64
    assert Sigmoid(spiking=False)(x).dtype == torch.float32


def test_a_number_in_a_file_is_the_value_of_the_field():
    """As the first SpikingJelly wrote it."""
    node = nn.Sequential(neuron.LIFNode(surrogate_function=Sigmoid(3.0)))
    node.load_state_dict({"0.surrogate_function.alpha": torch.tensor(1.5)})
    assert node[0].surrogate_function.alpha == 1.5
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "0\.surrogate_function\.beta"'):
        node.load_state_dict({"0.surrogate_function.beta": torch.tensor(1.5)})
    learned = Sigmoid(nn.Parameter(torch.tensor(3.0)))
    learned.load_state_dict({"alpha": torch.tensor(1.5)})
    assert isinstance(learned.alpha, nn.Parameter)
    assert learned.alpha.item() == 1.5


def test_text_for_kernels_by_hand_is_refused_in_words():
    for name in ("cuda_code", "cuda_codes"):  # as two ages call it
        with pytest.raises(NotImplementedError, match="Sigmoid gives no CUDA text: kernels are derived"):
            getattr(Sigmoid(), name)("y", "x", dtype="fp32")
