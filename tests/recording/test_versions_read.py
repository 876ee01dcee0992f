"""What earlier layouts wrote is read: a promise, kept on files whose bytes are made here, one by one."""

import json
import zlib

import pytest
import torch

from spikescope.monitor import Moment, open_records
from spikescope.recording import open_recording
from spikescope.spikes import PackedSpikes


def segment(version, head, bodies, sums=True):
    """The bytes of a file of records, by the words of the format alone."""
    text = json.dumps(head).encode()
    start = b"SPKREC0" + version + len(text).to_bytes(8, "little")
    total = zlib.crc32(text, zlib.crc32(start))
    made = start + total.to_bytes(4, "little") + text
    for number, body in enumerate(bodies):
        made += body + (zlib.crc32(body, (total + number) & 0xFFFFFFFF).to_bytes(4, "little") if sums else b"")
    return made, total


def test_version_2_is_read(tmp_path):
    values = torch.arange(12.0).view(2, 2, 3)
    head = {"records": [[["fc", 0, 0, 0, 2, 2, 1.0], {"tensor": ["float32", [2, 2, 3], "cpu"]}, 48]]}
    held, _ = segment(b"2", head, [values.numpy().tobytes()])
    (tmp_path / "00000000-17.records").write_bytes(held)
    records = open_records(tmp_path)
    assert torch.equal(records[0], values)
    assert records.moments == [Moment("fc", 0, 0, 0, 2, 2)]
    assert torch.equal(open_recording(tmp_path)["fc"]["record"].read(0), values)


def test_a_recording_of_version_3_is_read(tmp_path):
    bits = bytes([0b101, 0b010, 0b111, 0b001])  # two steps of two samples of three neurons
    form = {"grid": ["spike", "float32", True, [2, 2, 3], [2, 2, 3]]}
    head = {"records": [[["fc", 0, 4, 0, 2, 2, 1.0], form, 8]], "notes": [{"run": 4, "label": [1, 0]}]}
    _, total = segment(b"3", head, [])
    held, _ = segment(b"3", head, [bits + zlib.crc32(bits, total).to_bytes(4, "little")], sums=False)
    (tmp_path / "00000000-17.records").write_bytes(held)
    about = {"dt": 0.5, "layers": {"fc": {"type": "IFNode", "signals": ["spike"], "fields": {}}}}
    summed = zlib.crc32(json.dumps(about, separators=(",", ":")).encode())
    whole = {"format": "spikescope recording", "version": 1, "crc32": summed, "head": about}
    (tmp_path / "recording.json").write_text(json.dumps(whole, indent=1) + "\n")
    rec = open_recording(tmp_path)
    assert (rec.dt, rec.damage, rec.notes) == (0.5, [], [{"run": 4, "label": [1, 0]}])
    wanted = torch.tensor([[[1.0, 0, 1], [0, 1, 0]], [[1, 1, 1], [1, 0, 0]]])
    assert torch.equal(rec["fc"]["spike"].read(4), wanted)
    assert next(rec["fc"]["spike"].blocks()).values == PackedSpikes.from_dense(wanted)


def test_a_later_head_says_so(tmp_path):
    whole = {"format": "spikescope recording", "version": 9, "crc32": 0, "head": {}}
    (tmp_path / "recording.json").write_text(json.dumps(whole))
    with pytest.warns(RuntimeWarning, match="is of version 9, which this spikescope does not know"):
        assert open_recording(tmp_path).head == {}
