"""Each format is written from known events and read back; what is no such file gets words."""

import sys

import numpy as np
import pytest
from recordings import (
    END,
    HEADER,
    aedat4,
    aedat4_packet,
    aedat31,
    atis_bin,
    cifar_aedat,
    crowded,
    evt2,
    evt3,
    evt21,
    packet,
    put,
    recording,
    same,
    structured,
    td_dat,
)

from spikescope import datasets
from spikescope.datasets import formats


def written(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    return tmp_path / "file"


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    "header",
    [
        HEADER + END,
        HEADER,  # no line that ends the header
        b"#!AER-DAT3.1\r\n" + END,
        b"#!AER-DAT3.0\r\n#Format: RAW\r\n" + END,
        HEADER.replace(b"\r\n", b"\n") + b"#!END-HEADER\n",
        b"",
    ],
)
def test_aedat_3_with_every_header(header, tmp_path):
    events = recording(450)
    same(datasets.load_aedat_v3(written(tmp_path, aedat31(events, header=header))), events)


@pytest.mark.usefixtures("ways")
def test_a_packet_that_begins_like_a_comment_is_not_one(tmp_path):
    events = recording(0x23, seed=3)
    content = HEADER + END + packet(events, kind=0x23) + packet(events)  # 0x23 is a '#'
    same(datasets.load_aedat_v3(written(tmp_path, content)), events)


@pytest.mark.usefixtures("ways")
def test_times_of_aedat_3_run_over(tmp_path):
    events = recording(400, last=5 * 2**31)
    assert events["t"][-1] > 2**33
    same(datasets.load_aedat_v3(written(tmp_path, aedat31(events))), events)


@pytest.mark.usefixtures("ways")
def test_other_packets_and_padding_are_passed_over(tmp_path):
    events, half = recording(30), {name: values[:15] for name, values in recording(30).items()}
    rest = {name: values[15:] for name, values in events.items()}
    content = [
        packet(half, kind=0),
        packet(half, kind=2, size=36),
        packet(half, capacity=20, number=15) + bytes(5 * 8),
        packet({name: values[:0] for name, values in half.items()}),
        packet(rest, capacity=99, number=15),  # the last one may be shorter than its capacity says
    ]
    same(datasets.load_aedat_v3(written(tmp_path, HEADER + END + b"".join(content))), events)


@pytest.mark.usefixtures("ways")
def test_events_may_be_larger_than_8_bytes(tmp_path):
    events = recording(30)
    same(datasets.load_aedat_v3(written(tmp_path, HEADER + END + packet(events, size=12))), events)


@pytest.mark.usefixtures("ways")
def test_a_header_alone_has_no_events(tmp_path):
    held = datasets.load_aedat_v3(written(tmp_path, HEADER + END))
    assert {name: (len(values), values.dtype) for name, values in held.items()} == dict.fromkeys("txyp", (0, np.int64))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (aedat31(recording(50))[:-3], "is cut off: its last packet has 50 events, but 49 are there"),
        (aedat31(recording(50)) + b"\1\0\1", "is cut off: 3 bytes are left where a packet's head"),
        (HEADER + END + packet(recording(5), number=9), "counts 9 events in a packet of capacity 5"),
        (HEADER + END + packet(recording(5), size=8, offset=0), "its time at 0, instead of 8 and 4"),
        (b"\x01\0\x01\0" + b"\xff" * 60, "is damaged, or no AEDAT 3.x: the head of the packet at byte 0"),
        (b"#!AER-DAT2.0\r\n" + bytes(16), "is AEDAT 2.0, and this reads 3.x"),
        (HEADER.replace(b"RAW", b"PNG") + END, "in the format PNG; only RAW"),
    ],
)
def test_what_is_no_aedat_3_is_refused_in_words(content, said, tmp_path):
    with pytest.raises(datasets.FormatError, match=said):
        datasets.load_aedat_v3(written(tmp_path, content))


def test_every_cut_of_a_file_is_refused_or_ends_between_packets(tmp_path):
    events = recording(60)
    whole = aedat31(events, each=20)
    for end in range(len(HEADER + END), len(whole)):
        path = written(tmp_path, whole[:end])
        try:
            held = datasets.load_aedat_v3(path)
        except datasets.FormatError as error:
            assert "is cut off" in str(error)  # noqa: PT017
        else:
            assert len(held["t"]) % 20 == 0


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("seed", range(40))
def test_noise_is_refused_or_read_but_never_crashes(seed, tmp_path):
    drawn = np.random.default_rng(seed)
    content = bytearray(aedat31(recording(60), each=20))
    for place in drawn.integers(0, len(content), 6):
        content[place] = drawn.integers(256)
    path = written(tmp_path, bytes(content))
    for load in (datasets.load_aedat_v3, formats.load_aedat2, datasets.load_ATIS_bin, formats.load_td_dat):
        try:
            held = load(path)
        except datasets.FormatError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert len({len(values) for values in held.values()}) == 1


@pytest.mark.parametrize(
    "header",
    [
        b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n",
        b"# no version\n",
        b"",
        b"#!AER-DAT2.0\r\n#End Of ASCII Header\r\n",
    ],
)
def test_aedat_2_with_every_header(header, tmp_path):
    events = recording(300)
    same(datasets.CIFAR10DVS.load_origin_data(written(tmp_path, cifar_aedat(events, header))), events)


def test_an_event_of_aedat_2_that_begins_like_a_comment_is_one(tmp_path):
    pairs = np.array([[0x23000041, 7], [0x23000042, 8]], ">u4").tobytes()
    held = formats.load_aedat2(written(tmp_path, b"#!AER-DAT2.0\r\n" + pairs))
    assert held["address"].tolist() == [0x23000041, 0x23000042]
    assert held["t"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("load", "content", "said"),
    [
        (formats.load_aedat2, cifar_aedat(recording(5))[:-1], "take 8 bytes each"),
        (formats.load_aedat2, b"#!AER-DAT3.1\r\n", "is AEDAT 3.1, and this reads 2.0"),
        (datasets.load_ATIS_bin, atis_bin(recording(5, 34, 34))[:-2], "take 5 bytes each, but 23 bytes"),
        (datasets.load_ATIS_bin, b"", "is empty"),
        (formats.load_td_dat, td_dat(recording(5))[:-1], "take 8 bytes each"),
        (formats.load_td_dat, td_dat(recording(5), size=4), "an event has 4 bytes"),
        (formats.load_td_dat, b"% only\n", "ends after its header"),
    ],
)
def test_other_damaged_files_are_refused_in_words(load, content, said, tmp_path):
    with pytest.raises(datasets.FormatError, match=said):
        load(written(tmp_path, content))


def test_atis_and_dat_are_read_back(tmp_path):
    events = recording(300, 180, 240, last=2**23)
    same(datasets.load_ATIS_bin(written(tmp_path, atis_bin(events))), events)
    events = recording(300, 240, 304)
    events["t"] -= events["t"][0]
    for header in (b"% one\n% two\n", b""):
        same(formats.load_td_dat(written(tmp_path, td_dat(events, header))), events)


def with_times(events, start, stretch=1):
    return events | {"t": events["t"] * stretch + start}


def packers():
    lz4 = pytest.importorskip("lz4.frame")
    return {1: lz4.compress, 2: lambda held: lz4.compress(held, content_checksum=True, store_size=False)}


@pytest.mark.parametrize("compression", range(5))
@pytest.mark.parametrize("contents", [None, -1])  # a recording that was broken off has no table of contents
def test_aedat_4_is_read_back(compression, contents, tmp_path):
    if compression in (1, 2):
        pack = packers()[compression]
    elif compression:
        zstandard = pytest.importorskip("zstandard")
        pack = zstandard.ZstdCompressor(write_content_size=compression == 3).compress
    else:
        pack = bytes
    events = with_times(recording(60, 480, 640), 1_700_000_000_000_000)
    half, rest = ({name: values[part] for name, values in events.items()} for part in (slice(40), slice(40, None)))
    none = {name: values[:0] for name, values in events.items()}
    packets = [(0, half), (1, half), (0, none), (0, rest)]
    content = [(stream, aedat4_packet(held, b"FRME" if stream else b"EVTS")) for stream, held in packets]
    held = formats.load_aedat4(written(tmp_path, aedat4(content, compression, pack, contents)))
    same(held, events)
    assert {values.dtype for values in held.values()} == {np.dtype(np.int64)}
    assert [*held] == [*"txyp"]


def test_streams_of_aedat_4_are_not_mixed(tmp_path):
    left, right = recording(20, seed=1), recording(30, seed=2)
    path = written(tmp_path, aedat4([(0, aedat4_packet(left)), (3, aedat4_packet(right))]))
    same(formats.load_aedat4(path, stream=0), left)
    same(formats.load_aedat4(path, stream=3), right)
    with pytest.raises(datasets.OptionError, match="has events of 2 cameras: give stream, one of 0, 3"):
        formats.load_aedat4(path)
    with pytest.raises(datasets.OptionError, match="no events in stream 1; it has some in 0, 3"):
        formats.load_aedat4(path, stream=1)
    assert len(formats.load_aedat4(written(tmp_path, aedat4([])))["t"]) == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#!AER-DAT3.1\r\n", "is not AEDAT 4.0: it begins with '#!AER-DAT3.1'. load_aedat_v3 reads 3.x"),
        (aedat4([(0, aedat4_packet(recording(5)))], contents=-1)[:-3], "is cut off: its last packet has"),
        (aedat4([(0, aedat4_packet(recording(5)))], contents=-1) + b"1234", "is cut off: 4 bytes are left"),
        (aedat4([], compression=9), "compression is 9, which there is not"),
        (aedat4([(0, aedat4_packet(recording(5))[:-9])]), "is damaged: a table in it leads to where nothing is"),
        (aedat4([(0, b"no FlatBuffer")], compression=3), "a packet of it cannot be unpacked"),
        (b"#!AER-DAT4.0\r\n", "is damaged"),
    ],
)
def test_what_is_no_aedat_4_is_refused_in_words(content, said, tmp_path):
    if "unpacked" in said:
        pytest.importorskip("zstandard")
    with pytest.raises(datasets.FormatError, match=said):
        formats.load_aedat4(written(tmp_path, content))


@pytest.mark.parametrize("contents", [1, 150, -9])
def test_a_table_of_contents_of_aedat_4_that_lies_among_the_packets_is_refused(contents, tmp_path):
    packets = [(0, aedat4_packet(recording(20)))] * 2
    contents += len(aedat4(packets, contents=0)) if contents < 0 else 0
    put(tmp_path, {"a": aedat4(packets, contents=contents)})
    with pytest.raises(datasets.FormatError, match=f"is said to be at byte {contents}, but its packets end at"):
        formats.load_aedat4(tmp_path / "a")


@pytest.mark.parametrize("seed", range(40))
def test_noise_in_aedat_4_is_refused_or_read(seed, tmp_path):
    drawn = np.random.default_rng(seed)
    content = bytearray(aedat4([(0, aedat4_packet(recording(20))), (1, aedat4_packet(recording(3), b"FRME"))]))
    for place in drawn.integers(0, 150, 4):
        content[place] = drawn.integers(256)
    try:
        held = formats.load_aedat4(written(tmp_path, bytes(content)))
    except (datasets.FormatError, datasets.OptionError) as error:
        assert str(tmp_path) in str(error)  # noqa: PT017
    except ImportError as error:
        assert "lz4" in str(error)  # noqa: PT017
    else:
        assert len({len(values) for values in held.values()}) == 1


@pytest.mark.parametrize(("package", "compression"), [("lz4", 1), ("zstandard", 4)])
def test_what_unpacks_aedat_4_is_named_where_it_is_missing(package, compression, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lz4.frame" if package == "lz4" else package, None)
    with pytest.raises(ImportError, match=rf"{package}.*events"):
        formats.load_aedat4(written(tmp_path, aedat4([(0, b"")], compression)))


EVT = {"2.0": evt2, "2.1": evt21, "3.0": evt3}


@pytest.mark.parametrize("version", EVT)
@pytest.mark.parametrize(
    "events",
    [
        recording(300, 720, 1280),
        crowded(),
        with_times(crowded(seed=1), 4080),  # the low bits run over
        with_times(crowded(seed=2), 0, 97),
        with_times(crowded(seed=3), (1 << 24) - 20),  # the high bits of 3.0 run over
        with_times(crowded(seed=4), 3 << 24),
    ],
    ids=["apart", "beside each other", "low bits", "stretched", "high bits", "late"],
)
@pytest.mark.parametrize("part", [1 << 22, 7])
def test_evt_is_read_back(part, version, events, tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.datasets.formats.evt.PART", part)
    held = formats.load_evt(written(tmp_path, EVT[version](events)))
    first = (3 << 24) * (version == "3.0" and events["t"][0] >= 3 << 24)  # what no word says: how often it ran over
    same(held, events | {"t": events["t"] - first})
    assert {values.dtype for values in held.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("version", EVT)
@pytest.mark.parametrize("part", [1 << 22, 3])
def test_times_of_evt_run_over(part, version, tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.datasets.formats.evt.PART", part)
    whole = 1 << (24 if version == "3.0" else 34)
    t = np.array([0, 5, whole - 3, whole + 5, whole + 70, 2 * whole - 9, 2 * whole + 4000])
    events = recording(7, 720, 1280) | {"t": t}
    if version == "2.0":
        words = [part for at in t.tolist() for part in (0x8 << 28 | at % whole >> 6, (at & 63) << 22)]
        content = b"% evt 2.0\n" + np.array(words, "<u4").tobytes()
    else:
        content = EVT[version](events)
    assert formats.load_evt(written(tmp_path, content))["t"].tolist() == t.tolist()


@pytest.mark.parametrize("header", [b"% evt 2.1\n% format EVT21;endianness=legacy\n% end\n", b"% format EVT21\n"])
def test_the_halves_of_the_words_of_evt_21_may_be_turned(header, tmp_path):
    events = crowded()
    same(formats.load_evt(written(tmp_path, evt21(events, header, turned=True))), events)


@pytest.mark.parametrize("part", [1 << 22, 2])
def test_what_is_no_event_of_evt_is_passed_over(part, tmp_path, monkeypatch):
    monkeypatch.setattr("spikescope.datasets.formats.evt.PART", part)
    events = crowded(30)
    for write, kind, before, others in (
        (evt2, "<u4", [0x1 << 28 | 5], [0xA << 28 | 1, 0xE << 28]),
        (evt21, "<u8", [1 << 60 | 7], [0xA << 60, 0xE << 60 | 3]),
        # 3.0: an event before a time; a time without a row; then another sensor's row, and a trigger
        (evt3, "<u2", [0x2005, 0x8000, 0x6000, 0x2005, 0x4FFF], [0x1003, 0x2005, 0x3004, 0x4FFF, 0xA001, 0x7001]),
    ):
        content = write(events, header=b"")
        parts = np.array(before, kind).tobytes(), content, np.array(others, kind).tobytes()
        version = {evt2: b"2.0", evt21: b"2.1", evt3: b"3.0"}[write]
        same(formats.load_evt(written(tmp_path, b"% evt " + version + b"\n% end\n" + b"".join(parts))), events)
        empty = formats.load_evt(written(tmp_path, b"% evt " + version + b"\n"))
        assert [len(values) for values in empty.values()] == [0, 0, 0, 0]


def test_a_word_of_evt_that_begins_like_a_comment_is_one(tmp_path):
    events = {"t": np.array([0]), "x": np.array([0x25]), "y": np.array([0]), "p": np.array([0])}
    content = np.array([0x8025, 0x6000, 0x0000, 0x2025], "<u2").tobytes()
    held = formats.load_evt(written(tmp_path, b"% evt 3.0\n% end\n" + content))
    same(held, events | {"t": np.array([0x25 << 12])})
    held = formats.load_evt(written(tmp_path, b"% evt 3.0\n" + content))  # and without the line that ends a header
    same(held, events | {"t": np.array([0x25 << 12])})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (evt2(recording(5))[:-1], "is cut off: its words take 4 bytes each"),
        (evt3(recording(5))[:-1], "is cut off: its words take 2 bytes each"),
        (b"% evt 4.0\n", "is of EVT 4.0; 2.0, 2.1, 3.0 can be read"),
        (b"% date today\n" + bytes(16), "is not a RAW file of EVT: its header has no line"),
        (bytes(16), "is not a RAW file of EVT"),
        (b"% evt 3.0\n% format EVT3;endianness=big\n% end\n", "is big-endian"),
        (b"% evt 2.1\n" + np.array([5 << 60 | 5 << 28], "<u8").tobytes(), "words of types that there are not"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_evt_is_refused_in_words(content, said, tmp_path):
    with pytest.raises(datasets.FormatError, match=said):
        formats.load_evt(written(tmp_path, content))


def test_events_of_dat_that_go_back_in_time_are_dropped(tmp_path):
    events = recording(6, 240, 304)
    events["t"] = np.array([10, 20, 15, 20, 12, 30])
    held = formats.load_td_dat(written(tmp_path, td_dat(events)))
    same(held, {name: values[[0, 1, 3, 5]] for name, values in events.items()} | {"t": np.array([0, 10, 10, 20])})


def test_numpy_files_and_structured_arrays(tmp_path):
    events = recording(50)
    np.savez(tmp_path / "a.npz", **events)
    np.save(tmp_path / "b.npy", structured(events))
    same(formats.load_numpy(tmp_path / "a.npz"), events)
    same(formats.load_numpy(tmp_path / "b.npy"), events)
    same(formats.from_structured(formats.to_structured(events)), events)


@pytest.mark.parametrize(
    ("name", "value"), [("x", 40_000), ("y", 1.5), ("t", 0.25), ("t", np.nan), ("t", 2**63), ("x", -(2**15) - 1)]
)
def test_what_a_structured_array_has_no_place_for_is_refused_in_words(name, value):
    events = {held: np.zeros(3, np.int64) for held in "txyp"} | {name: np.array([0, 0, value])}
    with pytest.raises(datasets.EventsError, match=f"Event 2 has {name} = .* has no place"):
        formats.to_structured(events)


def test_numpy_files_that_are_damaged_or_run_code_are_refused_in_words(tmp_path):
    events = recording(50)
    np.savez_compressed(tmp_path / "a.npz", **events)
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (whole[:100], whole[:-40], b"", whole[:60] + b"\xff" * 20 + whole[80:]):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(datasets.FormatError, match=r"cut\.npz cannot be read as NumPy's"):
            datasets.load_events(tmp_path / "cut.npz")
    (tmp_path / "a.csv").write_text("t,x,y,p\n0,1,2,1\n")
    with pytest.raises(datasets.FormatError, match=r"it begins as neither\. It is of another format"):
        datasets.load_events(tmp_path / "a.csv")
    np.save(tmp_path / "objects.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(datasets.FormatError, match="cannot be read"):
        datasets.load_events(tmp_path / "objects.npy")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(datasets.FormatError, match="holds a, but no 'frames'"):
        datasets.load_npz_frames(tmp_path / "other.npz")


def test_matlab_files(tmp_path):
    io = pytest.importorskip("scipy.io")
    events = recording(40, 180, 240)
    io.savemat(
        tmp_path / "a.mat", dict(zip(("ts", "x", "y", "pol"), (events[n][:, None] for n in "txyp"), strict=True))
    )
    same(formats.load_mat(tmp_path / "a.mat"), events)
    io.savemat(tmp_path / "b.mat", {"ts": events["t"]})
    with pytest.raises(datasets.FormatError, match="has no x, y, pol"):
        formats.load_mat(tmp_path / "b.mat")
    put(tmp_path, {"c.mat": (tmp_path / "a.mat").read_bytes()[:200]})
    with pytest.raises(datasets.FormatError, match=r"c\.mat cannot be read as MATLAB's"):
        formats.load_mat(tmp_path / "c.mat")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        formats.load_mat(tmp_path / "d.mat")


@pytest.mark.parametrize("load", [datasets.load_aedat_v3, datasets.load_ATIS_bin, formats.load_td_dat])
def test_folders_are_no_recordings(load, tmp_path):
    with pytest.raises((datasets.FormatError, IsADirectoryError)):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")
