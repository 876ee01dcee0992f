"""Each format is written from known events and read back; what is no such file gets words."""

import numpy as np
import pytest
from recordings import (
    END,
    HEADER,
    aedat31,
    atis_bin,
    cifar_aedat,
    evt2,
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


def test_evt_2_is_read_back_and_others_are_refused(tmp_path):
    events = recording(300, 720, 1280)
    content = evt2(events)
    same(formats.load_evt2(written(tmp_path, content + np.array([0xA << 28, 0xE << 28], "<u4").tobytes())), events)
    for damaged, said in (
        (content[:-1], "take 4 bytes each"),
        (content.replace(b"EVT2", b"EVT3"), "of another EVT than 2.0"),
        (b"% evt 2.0\n" + np.array([1 << 28], "<u4").tobytes(), "before the first high bits"),
    ):
        with pytest.raises(datasets.FormatError, match=said):
            formats.load_evt2(written(tmp_path, damaged))


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


def test_numpy_files_that_are_damaged_or_run_code_are_refused_in_words(tmp_path):
    events = recording(50)
    np.savez_compressed(tmp_path / "a.npz", **events)
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (whole[:100], whole[:-40], b"", whole[:60] + b"\xff" * 20 + whole[80:]):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(datasets.FormatError, match=r"cut\.npz cannot be read as NumPy's"):
            datasets.load_events(tmp_path / "cut.npz")
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
