"""What says whether tensors differ from earlier ones in values alone: it says no of all else."""

import weakref

import pytest
import torch
from torch import nn

from spikescope.internals import like_these


def weight():
    return nn.Parameter(torch.rand(4, 3))


def given_other_memory(shape=(4, 3), **options):
    held = weight()
    held.data = torch.rand(shape, **options)
    return held


def with_a_transposed_memory():
    held = weight()
    held.data = torch.rand(3, 4).t()
    return held


def made_for_inference():
    with torch.inference_mode():
        return nn.Parameter(torch.rand(4, 3))


def with_a_lazy_sign():
    return torch._neg_view(torch.rand(4, 3)).requires_grad_()


OTHERS = {
    "another type": lambda: torch.rand(4, 3, requires_grad=True),
    "no tensor": lambda: 0.0,
    "nothing": lambda: None,
    "another shape": lambda: given_other_memory((3, 4)),
    "one axis more": lambda: given_other_memory((4, 3, 1)),
    "another dtype": lambda: given_other_memory(dtype=torch.float64),
    "other strides": with_a_transposed_memory,
    "another device": lambda: nn.Parameter(torch.rand(4, 3, device="meta")),
    "no need of a gradient": lambda: nn.Parameter(torch.rand(4, 3), requires_grad=False),
    "of inference": made_for_inference,
    "another layout": lambda: nn.Parameter(torch.rand(4, 3).to_sparse()),
    "zeros without memory": lambda: torch._efficientzerotensor((4, 3)).requires_grad_(),
    "a lazy sign": with_a_lazy_sign,
}


@pytest.mark.parametrize("made", OTHERS.values(), ids=OTHERS)
def test_it_says_no_of(made):
    x, held = torch.rand(2), weight()
    alike = like_these([x, held])
    assert alike(torch.rand(2), weight())
    assert not alike(x, made())


@pytest.mark.parametrize("kind", [nn.Parameter, torch.Tensor])
def test_a_sign_or_missing_memory_alone_makes_the_difference(kind):
    """Of a type and a form that are the same."""
    plain = torch.rand(4, 3).requires_grad_().as_subclass(kind)
    alike = like_these([plain])
    assert alike(torch.rand(4, 3).requires_grad_().as_subclass(kind))
    for made in (with_a_lazy_sign, OTHERS["zeros without memory"]):
        assert not alike(made().as_subclass(kind))


def test_it_keeps_no_tensor():
    held = weight()
    alike, seen = like_these([held]), weakref.ref(held)
    del held
    assert seen() is None
    assert alike(weight())


def test_what_a_transform_gives_is_another():
    x = torch.rand(3, 2)
    alike, seen = like_these([x[0]]), []
    torch.func.vmap(lambda row: seen.append(alike(row)) or row)(x)
    torch.func.grad(lambda row: seen.append(alike(row)) or row.sum())(x[0])
    assert seen == [False, False]
    assert alike(x[1])
