"""One mask for the whole sequence."""

import copy
import pickle

import pytest
import torch

from spikescope import layer
from spikescope.errors import ShapeError
from spikescope.layer.fold import is_expanded

BOTH = [layer.Dropout, layer.Dropout2d]


@pytest.mark.parametrize("made", BOTH)
def test_the_mask_stays_until_the_reset(made):
    torch.manual_seed(5)
    module = made(0.25, step_mode="m")
    x = torch.randn(5, 3, 8, 3, 5)
    y = module(x)
    mask = module.mask
    assert mask.shape == x.shape[1:]
    assert set(mask.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(y, x * mask)
    assert torch.equal(module(x * 2), x * 2 * mask)
    module.step_mode = "s"
    assert torch.equal(module(x[3]), x[3] * mask)
    module.reset()
    assert module.mask is None
    module(x[0])
    assert not torch.equal(module.mask, mask)


@pytest.mark.parametrize("made", BOTH)
def test_single_steps_draw_the_same_mask_as_a_sequence(made):
    x = torch.randn(5, 3, 8, 2, 3)
    singles, many = made(0.4), made(0.4, step_mode="m")
    torch.manual_seed(9)
    y = torch.stack([singles(step) for step in x])
    torch.manual_seed(9)
    assert torch.equal(many(x), y)
    torch.manual_seed(9)
    expanded = made(0.4, step_mode="m")(x[0].expand(x.shape))
    assert not is_expanded(expanded)  # its steps may be changed one by one
    assert torch.equal(expanded[2], y[0])


@pytest.mark.parametrize("made", BOTH)
def test_eval_is_the_identity(made):
    module = made(0.9).eval()
    x = torch.randn(3, 4, 2, 2)
    assert module(x) is x
    module.step_mode = "m"
    assert module(x) is x
    assert module.mask is None


def test_channels_fall_together_and_the_share_is_p():
    torch.manual_seed(2)
    dropped = layer.Dropout2d(0.3)(torch.ones(50, 40, 2, 2)) == 0
    assert torch.equal(dropped.all((2, 3)), dropped.any((2, 3)))
    for made in BOTH:
        share = (made(0.3)(torch.ones(50, 40, 1, 1)) == 0).float().mean().item()
        assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5  # four standard deviations
    assert not layer.Dropout(1.0)(torch.ones(3, 4)).any()
    assert layer.Dropout(0.0)(torch.ones(3, 4)).all()


def test_gradients_precision_and_copies():
    module = layer.Dropout(0.5, step_mode="m")
    x = torch.randn(4, 2, 6, requires_grad=True)
    module(x).sum().backward()
    assert torch.equal(x.grad, module.mask.expand(4, 2, 6))
    assert not module.mask.requires_grad
    assert module(x.detach().half()).dtype == torch.float16
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), module(x))
    assert not module.state_dict()
    assert module(torch.zeros(0, 2, 6)).shape == (0, 2, 6)
    module.reset()
    assert module(torch.zeros(3, 0, 6)).shape == (3, 0, 6)
    assert "p=0.5, step_mode=m" in repr(module)


def test_compiled():
    module = layer.Dropout(0.5, step_mode="m")
    x = torch.randn(4, 2, 6)
    module(x)
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), module(x))


def test_errors():
    for p in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"Dropout: p must be at least 0 and at most 1, but got {p}"):
            layer.Dropout(p)
    module = layer.Dropout()
    module(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match=r"(?s)Dropout cannot go on .* state mask .*reset_net"):
        module(torch.zeros(2, 4))
    with pytest.raises(TypeError, match=r"dtype torch\.int64"):
        layer.Dropout()(torch.ones(2, 3, dtype=torch.int64))
