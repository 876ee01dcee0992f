"""`spikescope inspect` and `spikescope export`: what they print, write and refuse, and their exit statuses."""

import subprocess
import sys

import pytest
import torch

from spikescope import monitor, neuron
from spikescope.cli.main import main
from spikescope.cli.recordings import formats
from spikescope.recording.export import registry


@pytest.fixture
def folder(tmp_path):
    """A recording of two runs."""
    net = torch.nn.Sequential(neuron.IFNode(step_mode="m"))
    place = tmp_path / "run.spk"
    with monitor.record(net, ["spike", "v"], to=place, dt=0.001, sync_every="1 B") as held:
        for n in (2, 3):
            held.note(label=list(range(n)))
            net(torch.full((4, n, 5), 0.5))
            net[0].reset()
    return place


def damage(folder):
    """Flip a bit in the body of the first file."""
    path = min(folder.glob("*.records"))
    held = bytearray(path.read_bytes())
    held[-3] ^= 1
    path.write_bytes(held)


def test_inspect_shows_what_there_is(folder, capsys):
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].startswith("Recording of 1 module, 2 runs, ")
    assert lines[1].split() == ["layer", "signal", "shape", "neurons", "values", "runs", "steps", "samples", "size"]
    assert lines[2].split()[:6] == ["0", "spike", "[5]", "5", "bits", "2"]
    assert lines[3].split()[:6] == ["0", "v", "[5]", "5", "float32", "2"]
    assert " 2 to 3 " in lines[2]
    assert "A step is 0.001 s, the longest run 0.004 s." in lines
    assert "Noted of 2 runs: label." in lines
    assert shown.err == ""


def test_the_help_of_export_has_the_endings_of_formats_with_several(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, held in registry.items():
        if len(held.suffixes) > 1:
            *first, last = held.suffixes
            assert f"{name} {', '.join(first)} or {last}" in shown


def test_inspect_tells_damage_when_all_is_read(folder, capsys):
    damage(folder)
    assert main(["inspect", str(folder), "--check"]) == 1
    assert "Damaged (1):" in capsys.readouterr().out


def test_inspect_tells_of_a_file_that_is_gone(folder, capsys):
    min(folder.glob("*.records")).unlink()
    assert main(["inspect", str(folder)]) == 1
    assert "are missing" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["inspect"], ["export", "--to", "parquet", "out.parquet"]])
def test_what_is_no_recording_is_refused(command, tmp_path, capsys):
    name, *options = command
    for place, words in ((tmp_path / "none", "there is no folder"), (tmp_path, "is no recording")):
        assert main([name, str(place), *options]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("spikescope: ")
        assert words in shown.err
        assert "Traceback" not in shown.err


def test_the_choices_are_the_formats():
    assert formats() == sorted(registry)


@pytest.mark.parametrize("name", sorted(registry))
def test_each_format_is_written(name, folder, tmp_path, capsys):
    held = registry[name]
    for package in (*held.packages, *held.saving):
        pytest.importorskip(package)
    out = tmp_path / f"out{(held.suffixes or ('',))[0]}"
    assert main(["export", str(folder), "--to", name, str(out), "--signal", "spike"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{out}: {name}, ")
    assert shown.err == ""
    assert out.exists()
    assert main(["export", str(folder), "--to", name, str(out), "--signal", "spike"]) == 2
    shown = capsys.readouterr().err
    assert "is there already" in shown
    assert "overwrite=" not in shown
    assert ("Give --overwrite to replace it" in shown) == out.is_file()


def test_what_is_chosen_arrives(folder, tmp_path, capsys):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    out = str(tmp_path / "out.parquet")
    options = ["--layer", "0", "--signal", "sp*", "--runs", "1:"]
    assert main(["export", str(folder), "--to", "parquet", out, *options]) == 0
    frame = pd.read_parquet(out)
    assert set(frame["run"]) == {1}
    assert len(frame) == 2 * 3 * 5  # a spike every second step
    assert main(["export", str(folder), "--to", "parquet", out, *options, "--overwrite", "--runs", "0"]) == 0
    assert len(pd.read_parquet(out)) == 2 * 2 * 5


def test_what_is_left_out_is_told(folder, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    assert main(["export", str(folder), "--to", "parquet", str(tmp_path / "out.parquet")]) == 0
    assert capsys.readouterr().err == (
        "spikescope: to_parquet leaves out 0.v: the format holds spikes alone. Choose what is exported with --signal "
        "spike.\n"
    )


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("csv", "invalid choice: 'csv'; for a file .csv say --to pandas"),
        ("pkl", "for a file .pkl say --to neo or --to pandas"),
        ("docx", f"invalid choice: 'docx'; choose from {', '.join(formats())}"),
    ],
)
def test_a_format_that_is_an_ending_is_told_which_writes_it(format, words, capsys):
    with pytest.raises(SystemExit):
        main(["export", "run.spk", "--to", format, f"x.{format}"])
    assert words in capsys.readouterr().err


def test_a_value_that_is_damaged_is_never_exported(folder, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    for path in folder.glob("*.records"):
        held = bytearray(path.read_bytes())
        held[-3] ^= 1
        path.write_bytes(held)
    status = main(["export", str(folder), "--to", "zarr", str(tmp_path / "out")])
    assert status == 2
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_loss_that_leaves_whole_runs_is_told_with_what_was_written(folder, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    files = sorted(folder.glob("*.records"))
    assert len(files) > 1
    files[0].unlink()
    status = main(["export", str(folder), "--to", "parquet", str(tmp_path / "o.parquet"), "--signal", "spike"])
    assert status == 1
    assert "are missing" in capsys.readouterr().err
    assert (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "nbw", "o"], "invalid choice: 'nbw'"),
        (["--to", "nwb", "o.nwb", "--runs", "x"], "a run such as 3, or runs such as 0:10, is wanted, but got 'x'"),
        (["--to", "nwb", "o.nwb", "--dt", "0"], "seconds above 0, such as 0.001, are wanted, but got '0'"),
        (["o.nwb"], "--to"),
    ],
)
def test_arguments_are_refused_before_anything_is_loaded(options, words, folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_help_needs_no_torch():
    code = (
        "import sys; from spikescope.cli.main import main\ntry: main(['export', '--help'])\nexcept SystemExit: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert "nwb" in done.stdout


def test_progress_is_shown_on_a_terminal_alone(folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("pyarrow")
    command = ["export", str(folder), "--to", "parquet", "--signal", "spike"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main([*command, str(tmp_path / "a.parquet")]) == 0
    assert "parquet 100 %, writing the file" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main([*command, str(tmp_path / "b.parquet"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_an_interruption_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    def stop(*work, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(registry["sonata"]), "write", stop)
    assert main(["export", str(folder), "--to", "sonata", str(tmp_path / "out")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["run.spk"]
