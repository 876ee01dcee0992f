"""Packing spikes by the kernel of a GPU, in Triton's interpreter, against NumPy."""

import numpy as np
import pytest
import torch

from spikescope import neuron
from spikescope.dynamics.layout import BLOCK
from spikescope.dynamics.triton import launch
from spikescope.functional.memory import stand_ins
from spikescope.monitor import OutputMonitor
from spikescope.monitor.classic.recorder import Recorder
from spikescope.spikes import PackedSpikes, float_spike_to_bool, vouched
from spikescope.spikes import gpu as packing

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not launch.interpreted(), reason="TRITON_INTERPRET is 0")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Triton's interpreter takes tensors of the CPU."""
    monkeypatch.setattr(packing, "PLACES", ("cpu",))


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 1), (3, 7, 50), (2, 256), (4, 1, 700), (1, 1, 8)], ids=str)
def test_bits_are_those_of_numpy(shape, dtype):
    spikes = (torch.rand(shape) < 0.4).to(dtype)
    rows = spikes.bool().numpy().reshape(shape[0], -1)
    assert packing.pack_on_gpu(spikes, 1, spikes.numel(), False) is not None
    bits, *about = float_spike_to_bool(spikes)
    assert np.array_equal(bits.numpy(), np.packbits(rows, bitorder="little"))
    assert about == [dtype, spikes.shape, -spikes.numel() % 8]
    by_row = packing.pack_on_gpu(spikes, shape[0], rows.shape[1], False)
    assert np.array_equal(by_row.numpy(), np.packbits(rows, axis=1, bitorder="little"))


def test_other_orders_in_memory():
    spikes = (torch.rand(6, 5, 40) < 0.4).float().transpose(0, 1)
    assert torch.equal(PackedSpikes.from_dense(spikes).dense(), spikes)


@pytest.mark.parametrize("odd", [0.5, -1.0, 2.0, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 270, 299])
def test_what_is_no_spike_is_found_wherever_it_stands(odd, place):
    spikes = torch.zeros(300)
    spikes[place] = odd
    with pytest.raises(ValueError, match="packs spikes"):
        float_spike_to_bool(spikes)


def test_only_the_very_tensor_is_vouched_for_and_only_as_long_as_nobody_changes_it(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.Tensor, "item", lambda held: waits.append(held) or 0)
    spikes = torch.ones(300)
    with vouched(spikes):
        float_spike_to_bool(spikes)
        assert not waits, "nobody reads what the kernel found"
        float_spike_to_bool(spikes.clone())
        assert len(waits) == 1
        spikes.mul_(1)
        float_spike_to_bool(spikes)
        assert len(waits) == 2
    float_spike_to_bool(spikes)
    assert len(waits) == 3


def test_what_a_neuron_gives_in_inference_mode_is_vouched_for_too(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "item", lambda held: pytest.fail("waits for the device"))
    monkeypatch.setattr(Recorder, "_are_spikes", lambda recorder, value, name: True)
    node = neuron.IFNode(step_mode="m", backend="torch")
    with OutputMonitor(node, neuron.IFNode, float_spike_to_bool) as seen, torch.inference_mode():
        node(torch.full((4, 3), 0.5))
    assert seen.records[0][0].tolist() == [0b00111000, 0b1110]


def test_what_is_kept_of_spikes_is_packed_by_the_kernel_and_nobody_waits(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "item", lambda held: pytest.fail("waits for the device"))
    monkeypatch.setattr(stand_ins, "pack_rows", lambda *given: None)
    monkeypatch.setattr(stand_ins, "may_pack", lambda *given: False)
    monkeypatch.setattr(stand_ins, "pack_bool", lambda *given: pytest.fail("several kernels"))
    monkeypatch.setattr(stand_ins, "_sees_at_once", lambda x: False)
    spikes = (torch.rand(stand_ins.LEAST + 3) < 0.4).float()
    kept = stand_ins.Spikes(spikes.dtype, sure=True)
    assert kept.ready(spikes.untyped_storage())
    assert torch.equal(kept.memory(), spikes)


def test_a_row_may_be_longer_than_32_bits_count(monkeypatch):
    """The last program of such a row alone: nobody touches the rest of the memory."""
    from triton.runtime import interpreter

    columns, last = 2**31 + 8, 2**31 // BLOCK
    monkeypatch.setattr(interpreter.interpreter_builder, "grid_idx", (last, 0, 0), raising=False)
    monkeypatch.setattr(interpreter.interpreter_builder, "set_grid_idx", lambda *at: None)
    monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *given: None)  # copies all to itself
    spikes, bits = torch.empty(columns, dtype=torch.uint8), torch.empty(columns // 8, dtype=torch.uint8)
    odd = torch.zeros((), dtype=torch.int32)
    spikes[-8:] = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1])
    bits[-1] = 0
    launch.launch(packing._kernel(), spikes.device, 1, [spikes, bits, odd, columns, len(bits), last + 1])
    assert (bits[-1].item(), odd.item()) == (0b10001101, 0)
