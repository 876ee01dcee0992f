"""What inference mode made is copied, for what goes backwards: its numbers alone, and a repeated frame stays one."""

import math

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.internals import out_of_inference
from spikescope.models import summary
from spikescope.profiling import profile

FORMS = {
    "plain": lambda x: x,
    "repeated": lambda x: x[:1].expand(4, *x.shape[1:]),
    "repeated in places": lambda x: x[:, :1, :, :1].expand(4, 2, 6, 7),
    "row of each": lambda x: x[:, 0],
    "windows": lambda x: x.unfold(-1, 3, 1),
    "part": lambda x: x[1:3, :, 1:],
    "transposed": lambda x: x.transpose(0, 2),
    "every second": lambda x: x[..., ::2],
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "empty": lambda x: x[:0],
    "number": lambda x: x[0, 0, 0, 0],
    "turned": lambda x: torch.conj(torch.complex(x, x)),
    "negative": lambda x: torch.conj(torch.complex(x, x)).imag,
    "sparse": lambda x: x.to_sparse(),
    "half": lambda x: x.half(),
    "leaf": lambda x: x.requires_grad_(),
}
AS_THEY_LIE = ("plain", "repeated", "transposed", "channels last", "turned", "half", "leaf")


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_has_the_same_numbers_and_each_that_is_repeated_once(form):
    with torch.inference_mode():
        made = FORMS[form](torch.rand(4, 3, 6, 5))
    found = out_of_inference(made)
    assert not found.is_inference()
    assert found.dtype is made.dtype
    if made.layout is torch.strided:
        pairs = list(zip(made.shape, made.stride(), strict=True))
        once = math.prod(1 if stride == 0 and size > 1 else size for size, stride in pairs)
        assert found.untyped_storage().nbytes() == once * made.element_size()
        assert [not stride for stride in found.stride()] == [not stride for _, stride in pairs]
        if form in AS_THEY_LIE:
            assert found.stride() == made.stride()
        assert found.untyped_storage().data_ptr() != made.untyped_storage().data_ptr() or not made.numel()
        assert torch.equal(found, made)
    else:
        assert torch.equal(found.to_dense(), made.to_dense())
    weight = torch.ones((), dtype=made.dtype, requires_grad=True)
    if made.layout is torch.strided:
        (found * weight).abs().sum().backward()
        assert weight.grad is not None


def test_an_ordinary_tensor_stays_itself():
    x = torch.rand(2, 3)
    assert out_of_inference(x) is x


def test_a_repeated_frame_is_measured_as_one():
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 3, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(27, 4))
    functional.set_step_mode(net, "m")
    with torch.inference_mode():
        frame = torch.rand(2, 2, 5, 5)
        given = frame.expand(6, *frame.shape)
    frames = given.clone()[:1].expand(6, *frame.shape)
    layers, wanted = (summary(net, x).layers for x in (given, frames))
    assert layers == wanted
    assert layers != summary(net, frames.contiguous()).layers
    found, plain = (profile(net, x, seconds=0.0) for x in (given, frames))
    assert [(row.name, row.macs) for row in found.layers] == [(row.name, row.macs) for row in plain.layers]
    plans = [functional.fit_memory(net, x, "1 GB", show=False).before for x in (given, frames)]
    assert plans[0] == plans[1]
