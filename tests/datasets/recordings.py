"""Recordings made up for the tests, and a writer for each format."""

import hashlib
import io
import struct
import tarfile
import zipfile

import numpy as np

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-09-14 14:09:33 (TZ+0200)\r\n"
END = b"#!END-HEADER\r\n"
TONIC = [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")]


def recording(number=500, H=128, W=128, seed=0, last=100_000, dtype=np.int64):
    """Events in order of time, by a generator that is the same everywhere."""
    state, drawn = seed * 2654435761 % 2**32 + 1, []
    for _ in range(4 * number):
        state = state * 1664525 + 1013904223 & 0xFFFFFFFF
        drawn.append(state >> 8)
    t, x, y, p = np.array(drawn, np.int64).reshape(4, number)
    t = t % last if last < 1 << 24 else t * last >> 24
    columns = {"t": np.sort(t), "x": x % W, "y": y % H, "p": p >> 7 & 1}
    return {name: values.astype(dtype) for name, values in columns.items()}


def same(ours, theirs):
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert np.array_equal(ours[name], values), name


def packet(events, kind=1, overflow=0, capacity=None, number=None, size=8, offset=4):
    """A packet of AEDAT 3.1: its head and its events."""
    held = len(events["t"])
    address = (events["x"] << 17 | events["y"] << 2 | events["p"] << 1 | 1).astype("<u4")
    pairs = np.stack([address, (events["t"] & 0x7FFFFFFF).astype("<u4")], axis=1)
    body = b"".join(pair.tobytes() + bytes(size - 8) for pair in pairs)
    capacity, number = held if capacity is None else capacity, held if number is None else number
    return struct.pack("<HHIIIIII", kind, 1, size, offset, overflow, capacity, number, number) + body


def aedat31(events, each=200, header=HEADER + END):
    """A file of AEDAT 3.1 in packets of `each` events, cut also where the time runs over."""
    parts, start = [header], 0
    while start < len(events["t"]):
        overflow = int(events["t"][start]) >> 31
        end = min(start + each, int(np.searchsorted(events["t"], (overflow + 1) << 31)))
        parts.append(packet({name: values[start:end] for name, values in events.items()}, overflow=overflow))
        start = end
    return b"".join(parts)


def cifar_aedat(events, header=b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"):
    """AEDAT 2.0 as CIFAR10-DVS has it."""
    address = (127 - events["x"]) << 8 | (127 - events["y"]) << 1 | (1 - events["p"])
    return header + np.stack([address, events["t"]], axis=1).astype(">u4").tobytes()


def atis_bin(events):
    rows = [events["x"], events["y"], events["p"] << 7 | events["t"] >> 16, events["t"] >> 8 & 255, events["t"] & 255]
    return np.stack(rows, axis=1).astype(np.uint8).tobytes()


def td_dat(events, header=b"% Data file containing CD events.\n% Version 2\n", size=8):
    words = events["t"] | events["x"] << 32 | events["y"] << 41 | events["p"] << 49
    return header + (bytes([0, size]) if header else b"") + words.astype("<u8").tobytes()


def evt2(events, header=b"% evt 2.0\n% format EVT2;height=720;width=1280\n% end\n"):
    words, high = [], None
    for t, x, y, p in zip(*(events[name].tolist() for name in "txyp"), strict=True):
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return header + np.array(words, "<u4").tobytes()


EVERY = np.dtype(
    {"names": [*"txyp"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)


def aedat4_packet(events, identifier=b"EVTS"):
    """A table of one field, a vector of events; its own table comes first."""
    rows = np.zeros(len(events["t"]), EVERY)
    for name in "txyp":
        rows[name] = events[name]
    flat = struct.pack("<I4sHHHxxiIII", 16, identifier, 6, 8, 4, 8, 8, 0, len(rows)) + rows.tobytes()
    return struct.pack("<I", len(flat)) + flat


def aedat4(packets, compression=0, pack=bytes, contents=None, info=b"<dv></dv>"):
    """A file of packets, pairs of stream and content, with a table of contents of which the header says where it is."""
    bodies = [(stream, pack(packet)) for stream, packet in packets]
    body = b"".join(struct.pack("<iI", stream, len(packed)) + packed for stream, packed in bodies)
    flat = struct.pack("<I4sHHHHHxxiiqII", 20, b"IOHE", 10, 20, 4, 8, 16, 12, compression, -2, 4, len(info)) + info
    start = len(b"#!AER-DAT4.0\r\n") + 4 + len(flat)
    flat = flat.replace(struct.pack("<q", -2), struct.pack("<q", start + len(body) if contents is None else contents))
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(flat)) + flat + body + (b"contents" if contents is None else b"")


def together(events, width, aligned=False):
    """Runs of events of the same time, row and polarity, whose columns rise within `width` pixels."""
    runs = []
    for t, x, y, p in zip(*(events[name].tolist() for name in "txyp"), strict=True):
        if runs and runs[-1][0] == (t, y, p) and runs[-1][1][-1] < x < runs[-1][2] + width:
            runs[-1][1].append(x)
        else:
            runs.append(((t, y, p), [x], x // width * width if aligned else x))
    return runs


def evt21(events, header=b"% evt 2.1\n% format EVT21;height=720;width=1280\n% end\n", turned=False):
    words, high = [], None
    for (t, y, p), columns, first in together(events, 32, aligned=True):
        if t >> 6 != high:
            high = t >> 6
            words.append((0x8 << 28 | high % (1 << 28)) << 32)
        mask = sum(1 << x - first for x in columns)
        words.append((p << 28 | (t & 63) << 22 | first << 11 | y) << 32 | mask)
    words = np.array(words, "<u8")
    return header + (words << np.uint64(32) | words >> np.uint64(32) if turned else words).tobytes()


def evt3(events, header=b"% evt 3.0\n% format EVT3;height=720;width=1280\n% end\n"):
    """Words only where something changes; runs of more than two pixels as vectors of 12 and 8."""
    words, time, row = [], (None, None), None
    for (t, y, p), columns, first in together(events, 32):
        high, low = t >> 12, t & 0xFFF
        if high != time[0]:
            words += [0x8000 | high % 4096, 0x6000 | low]
        elif low != time[1]:
            words.append(0x6000 | low)
        if y != row:
            words.append(y)
        time, row = (high, low), y
        if len(columns) < 3:
            words += [0x2000 | p << 11 | x for x in columns]
        else:
            mask = sum(1 << x - first for x in columns)
            words += [0x3000 | p << 11 | first, 0x4000 | mask & 0xFFF, 0x4000 | mask >> 12 & 0xFFF, 0x5000 | mask >> 24]
    return header + np.array(words, "<u2").tobytes()


def crowded(number=400, H=720, W=1280, seed=0, last=40):
    """Events of few times and rows, so that many are beside each other."""
    events = recording(number, H, W, seed, last)
    events["y"], events["x"] = events["y"] % 4, events["x"] % 60 + W - 60
    order = np.lexsort([events["x"], events["p"], events["y"], events["t"]])
    rows = np.unique(np.stack([events[name][order] for name in "typx"]), axis=1)
    return dict(zip("typx", rows, strict=True))


def structured(events):
    made = np.empty(len(events["t"]), TONIC)
    for name in "xytp":
        made[name] = events[name]
    return made


def zipped(files):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def tarred(files):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


def put(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def gesture_files(recordings):
    """The published tree of DVS128 Gesture: recordings of a few events for each split, `{split: {name: samples}}`."""
    files = {}
    for split, named in recordings.items():
        files[f"DvsGesture/trials_to_{split}.txt"] = "".join(f"{name}.aedat\n" for name in named).encode() + b"\n"
        for name, (events, rows) in named.items():
            files[f"DvsGesture/{name}.aedat"] = aedat31(events)
            table = ["class,startTime_usec,endTime_usec", *(",".join(map(str, row)) for row in rows)]
            files[f"DvsGesture/{name}_labels.csv"] = "\n".join(table).encode()
    return files


OFFLINE = "urllib.request.urlopen"


def npz(**arrays):
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def npy(values, **options):
    held = io.BytesIO()
    np.save(held, values, **options)
    return held.getvalue()


def fetched(kind, files):
    """A data set whose published files are these."""

    class Fetched(kind):
        @staticmethod
        def resource_url_md5():
            return [(name, "https://example.org/files", hashlib.md5(held).hexdigest()) for name, held in files.items()]

    return Fetched
