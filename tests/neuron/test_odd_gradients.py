"""Gradients that no kernel takes as they come, at calls that are prepared: what they say counts, or it is an error."""

import pytest
import torch
from shortcut_cases import twins
from torch.testing._internal.two_tensor import TwoTensor

from spikescope import internals

SHAPE = (3, 4)
VALUES = torch.linspace(-1, 2, 12).view(SHAPE)


class Own(torch.Tensor):
    """A tensor that others may have a say about."""


ODD = {
    "negated": lambda: torch._neg_view(-VALUES),
    "sparse": VALUES.to_sparse,
    "of a class of its own": lambda: VALUES.as_subclass(Own),
    "of zeros that are nowhere": lambda: torch._efficientzerotensor(SHAPE),
    "a pair of two": lambda: TwoTensor(VALUES.clone(), VALUES.clone()),
}


def gradient(node, of, where):
    """The gradient of the input, and of the state before, where that of the output or of the last state is `of` it."""
    node.reset()
    x, start = VALUES.clone().requires_grad_(), (VALUES / 2).requires_grad_()
    node.v = start
    y = node(x)
    found = torch.autograd.grad(y if where == "output" else node.v, [x, start], of)
    return [held.a if isinstance(held, TwoTensor) else held for held in found]


@pytest.mark.parametrize("where", ["output", "state"])
@pytest.mark.parametrize("kind", ODD)
def test_it_is_that_of_the_eager_loop(kind, where):
    short, plain = twins()
    for _ in range(3):
        for odd in (False, True):  # the kernel has run backwards for others before
            of = ODD[kind]() if odd else VALUES
            same = torch.zeros(SHAPE) if odd and kind.startswith("of zeros") else VALUES
            torch.testing.assert_close(gradient(short, of, where), gradient(plain, same, where), rtol=1e-5, atol=1e-6)


def test_many_at_once():
    short, _ = twins()
    for _ in range(3):
        short.reset()
        x = VALUES.clone().requires_grad_()
        y, many = short(x), torch.stack([VALUES, 1 - VALUES])
        want = [torch.autograd.grad(y, x, of, retain_graph=True)[0] for of in many]
        (got,) = torch.autograd.grad(y, x, many, is_grads_batched=True)
        torch.testing.assert_close(got, torch.stack(want), rtol=1e-5, atol=1e-6)


def test_one_without_memory_is_an_error():
    short, _ = twins()
    freed = VALUES.clone()
    freed.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"has no memory|storage"):
        gradient(short, freed, "output")


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_memory_is_known_without_its_keys(kind):
    assert internals.are_plain_gradients(VALUES, None)
    held = ODD[kind]()
    assert not internals.are_plain_gradients(VALUES, held)
    assert not internals.is_plain(VALUES, held)


def test_what_a_transform_has_made_is_known_without_its_keys():
    left = []
    torch.func.vmap(lambda held: left.append(held) or held)(VALUES)
    torch.func.grad(lambda held: left.append(held) or held.sum())(VALUES)
    assert len(left) == 2
    for held in (*left, torch._to_functional_tensor(VALUES), VALUES.to_mkldnn()):
        assert not internals.is_plain(held)
        assert not internals.are_plain_gradients(held)
