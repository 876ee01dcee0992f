"""Files of records under random damage: `python tests/sweeps/record_damage.py 10000` (`make damage`).

Three kinds of harm: bytes that change, go or come; a head whose description is changed and which is sealed again, as
who wants to do harm does; and both in files of version 1, which have no checksums. Whatever is done, a reader gets a
ValueError that names the file, or the record as it was written; where checksums cannot tell, any value at all, but no
other error, no crash, and no more memory than the file has bytes, times a few.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from spikescope.monitor import Moment, open_records
from spikescope.recording.disk.grid import Tiles
from spikescope.recording.disk.segment import MAGIC, write_chunk
from spikescope.spikes import CompressedSpikes, PackedSpikes

NAME = "00000000-1.records"
GROWTH = 64 << 20
"""Bytes that reading one of these small files may take at most."""

SPIKES = PackedSpikes.from_dense((torch.arange(66) % 3 == 0).float().view(3, 2, 11), order="time")
VALUES = [
    torch.arange(12.0).view(3, 4),
    torch.tensor([True, False, True]),
    torch.zeros(0, 4),
    np.arange(6, dtype=">i4").reshape(2, 3),
    SPIKES,
    CompressedSpikes(b"\x28\xb5\x2f\xfd rest of a frame", torch.Size([3, 2, 11]), torch.float32),
    {"a": [1, 2.5, None], (3, "b"): ("text", True, b"\x00\xff")},
    torch.float16,
    (torch.ones(2, dtype=torch.bfloat16), [torch.tensor(7)]),
    "ü",
]
TILED = torch.arange(4 * 3 * 70.0).view(4, 3, 70)
"""A signal in more than one tile, which files of version 1 do not have."""
MOMENTS = [Moment(f"layer{i}", i, 0, i, i + 1, 2) for i in range(len(VALUES) + 1)]

NUMBERS = [-1, 0, 1, 7, 2**31, 2**40, 2**62, 2**63, 2**200, 1.5, float("inf"), float("nan"), True, None]
TEXTS = ["", "float32", "object", "O", "<U999999999", "cuda:0", "meta", "step", "tensor"]
LISTS = [[], [0], [2**40], [2**21] * 3, [-1, -4], [[1]], [[[[]]]]]
FORMS = [
    {},
    {"a": 1, "b": 2},
    {"os.system": ["true"]},
    {"tensor": []},
    {"tensor": ["float32", [2**40], "cpu"]},
    {"array": ["<f8", [2**40]]},
    {"bytes": [2**40]},
    {"list": [{"bytes": [1]}] * 9},
    {"dict": [[{"list": []}, 1]]},
    {"dict": [[1]]},
    {"dtype": "Tensor"},
    {"dtype": []},
    {"frame": []},
    {"spikes": [1, 2, 3, 4]},
    {"grid": []},
    {"grid": ["v", "float32", False, [2**40, 1, 1], [1, 1, 1]]},
    {"grid": ["v", "float32", True, [2**20, 2**20], [1, 1, 8]]},
    {"grid": ["v", "float32", False, [4, 3, 70], [0, 3, 70]]},
]
ODD = [*NUMBERS, *TEXTS, *LISTS, *FORMS]


def values(version: int = 3) -> list:
    """What is in a file of this version."""
    return VALUES if version == 1 else [*VALUES, TILED]


def write(folder: Path, version: int = 3) -> bytes:
    """A file with a record of every kind, and its content."""
    path = folder / NAME
    held = [Tiles("v", one) if one is TILED else one for one in values(version)]
    write_chunk(path, held, MOMENTS[: len(held)])
    if version == 1:
        path.write_bytes(_as_old(path.read_bytes()))
    return path.read_bytes()


def _parts(content: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(content[8:16], "little")
    return json.loads(content[20 : 20 + size]), content[20 + size :]


def _as_old(content: bytes) -> bytes:
    """The same records in the layout of version 1: no checksums, but of each part where it begins."""
    head, rest = _parts(content)
    bodies, place = b"", 0
    for _, _, size in head["records"]:
        bodies, place = bodies + rest[place : place + size], place + size + 4
    start = 0

    def placed(form):
        nonlocal start
        if not isinstance(form, dict):
            return form
        ((kind, held),) = form.items()
        if kind in ("tensor", "array", "bytes"):
            size = _bytes(kind, held)
            start += size
            return {kind: [*held, start - size]}
        if kind in ("spikes", "frame"):
            return {kind: [placed(held[0]), *held[1:]]}
        if kind == "dict":
            return {kind: [[placed(key), placed(value)] for key, value in held]}
        return form if kind == "dtype" else {kind: [placed(item) for item in held]}

    records = [[moment, placed(form)] for moment, form, _ in head["records"]]
    text = json.dumps({"size": len(bodies), "records": records}).encode()
    return MAGIC + b"1" + len(text).to_bytes(8, "little") + text + bodies


def _bytes(kind: str, held: list) -> int:
    if kind == "bytes":
        return held[0]
    item = getattr(torch, held[0]).itemsize if kind == "tensor" else np.dtype(held[0]).itemsize
    return item * int(np.prod(held[1], dtype=int))


def seal(head: bytes, bodies: list[bytes], tiled: list[bool]) -> bytes:
    """A file with right checksums, whatever it says; of tiles, whose sums lie among them, those that they had."""
    start = MAGIC + b"3" + len(head).to_bytes(8, "little")
    total = zlib.crc32(head, zlib.crc32(start))
    sums = (zlib.crc32(body, (total + i) & 0xFFFFFFFF).to_bytes(4, "little") for i, body in enumerate(bodies))
    ends = b"".join(body + (b"" if tiles else end) for body, end, tiles in zip(bodies, sums, tiled, strict=True))
    return start + total.to_bytes(4, "little") + head + ends


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes that changed, went or came."""
    held = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place, length = rng.randrange(len(held) + 1), rng.choice((1, 1, 2, 8, 64, 512))
        match rng.randrange(7):
            case 0 | 1:
                held[place % len(held)] ^= 1 << rng.randrange(8)
            case 2:
                del held[place:]
            case 3:
                del held[place : place + length]
            case 4:
                held[place:place] = rng.randbytes(length)
            case 5:
                held[place : place + length] = bytes(len(held[place : place + length]))
            case _:
                other = rng.randrange(len(held) + 1)
                held[place : place + length] = held[other : other + len(held[place : place + length])]
        if not held:
            break
    return bytes(held)


def forged(content: bytes, rng: random.Random) -> bytes:
    """A head that says something else, sealed as if it were right."""
    head, rest = _parts(content)
    bodies, place = [], 0
    tiled = [isinstance(form, dict) and "grid" in form for _, form, _ in head["records"]]
    for (_, _, size), tiles in zip(head["records"], tiled, strict=True):
        bodies.append(rest[place : place + size])
        place += size + 4 * (not tiles)
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(head, rng)
    text = json.dumps(head).encode()
    if rng.random() < 0.05:
        text = rng.choice([b"[" * 100_000, b"{", b"null", b"9" * 5000, b'"\xff"', text.decode().encode("utf-16")])
    return seal(text, bodies, tiled)


def _change(held, rng: random.Random) -> None:
    """Put something odd at a random place of nested lists and objects."""
    places = []
    todo = [held]
    while todo:
        within = todo.pop()
        for key in list(within) if isinstance(within, dict) else range(len(within)):
            places.append((within, key))
            if isinstance(within[key], (dict, list)):
                todo.append(within[key])
    within, key = rng.choice(places)
    match rng.randrange(4):
        case 0 if isinstance(within, list):
            del within[key]
        case 1 if isinstance(within, list):
            within.append(json.loads(json.dumps(within[key])))
        case 2 if isinstance(within, dict):
            within[str(rng.choice(ODD))] = within.pop(key)
        case _:
            within[key] = json.loads(json.dumps(rng.choice(ODD)))


def same(a, b) -> bool:
    """Whether two values are the same to the bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


def outcome(folder: Path, content: bytes, honest: bool) -> str:
    """What a reader makes of a file; `honest` if checksums have to tell every harm."""
    (folder / NAME).write_bytes(content)
    wanted = values(1 if content[7:8] == b"1" else 3)
    try:
        records = open_records(folder)
    except ValueError as error:
        _check_words(error)
        return "refused"
    told = 0
    for i in range(len(records)):
        try:
            value = records[i]
        except ValueError as error:
            _check_words(error, f"record {i} ")
            told += 1
            continue
        if honest:
            assert len(records) == len(wanted)
            assert same(value, wanted[i]), f"record {i} was given as {value!r}"
            assert records.moments[i] == MOMENTS[i]
    if told:
        whole = open_records(folder, damaged="skip")[:]
        assert len(whole) == len(records) - told
        return "told by record"
    return "as it was" if honest else "any value"


def _check_words(error: ValueError, *wanted: str) -> None:
    for word in (NAME, *wanted):
        assert word in str(error), f"{word} is not named: {error}"


def sweep(count: int, seed: int = 0) -> Counter:
    """So many damages, and how each ended."""
    rng, ends = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # files without checksums, records left out
        folder = Path(place)
        new, old = write(folder), write(folder, version=1)
        assert outcome(folder, new, True) == outcome(folder, old, True) == "as it was"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            kind = rng.choice(("damaged", "forged", "damaged old"))
            made = {
                "damaged": lambda: damaged(new, rng),
                "forged": lambda: forged(new, rng),
                "damaged old": lambda: damaged(old, rng),
            }[kind]()
            try:
                ends[kind, outcome(folder, made, kind == "damaged")] += 1
            except Exception as error:
                raise AssertionError(f"damage {number} of seed {seed}, {kind}: {error}") from error
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        assert grown < GROWTH, f"reading took {grown:,} bytes"
    return ends


if __name__ == "__main__":
    for (kind, end), number in sorted(sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000).items()):
        print(f"{kind:12}  {end:15}  {number:6}")
