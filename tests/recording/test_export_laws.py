"""What every format does alike; a new one is tested by existing."""

import inspect
import re
import sys
from pathlib import Path

import pytest
import torch
from export_cases import DT, account, made_of, recording, spikes, together

import fresh
from spikescope.errors import MissingExtraError
from spikescope.files import OutputError
from spikescope.recording import export
from spikescope.recording.export import base, registry

ROOT = Path(__file__).parents[2]
FORMATS = sorted(registry)
IN_SECONDS = [name for name in FORMATS if registry[name].seconds]
FILES = [name for name in FORMATS if isinstance(registry[name], base.FileFormat)]
SPIKES_ALONE = [name for name in FORMATS if not registry[name].values]


def needs(name):
    for package in (*registry[name].packages, *registry[name].saving):
        pytest.importorskip(package)


def target(name, tmp_path):
    return tmp_path / f"run{(registry[name].suffixes or ('',))[0]}"


def write(made, name, path, overwrite=False, **choice):
    return registry[name].export(made, path, overwrite, **choice)


def test_a_format_is_called_as_its_file():
    folder = Path(export.__file__).parent / "formats"
    assert sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__") == FORMATS


def test_options_are_those_with_names():
    class Nameless(base.FileFormat):
        def write(self, source, path, compress=True, **options):
            """As the signature of the base class suggests."""

    assert Nameless().own() == ["compress"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_a_method_with_a_text(name):
    method = getattr(recording(), f"to_{name}")
    text = inspect.getdoc(method)
    assert f"Needs the extra `{registry[name].extra}`" in text
    assert registry[name].loses in text
    options = inspect.signature(method).parameters
    assert {"layers", "signals", "runs", "dt", "progress"} <= set(options)
    assert ("path" in options) == (name in FILES)
    for option in registry[name].own():
        assert f"- `{option}`:" in text


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_stands_in_the_documents(name):
    held = registry[name]
    guide = (ROOT / "docs" / "guide" / "exports.md").read_text()
    packages = ", ".join(held.packages) or "none"
    assert f"| `to_{name}` | `{held.extra}` | {packages} | {held.keeps} | {held.loses} |" in guide
    assert re.search(rf"^{held.extra} = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    listed = (ROOT / "docs" / "dependencies.md").read_text()
    for package in (*held.packages, *held.saving):
        assert re.search(rf"^\| {package} \|[^|]*`{held.extra}`", listed, flags=re.MULTILINE), package


@pytest.mark.parametrize("name", FORMATS)
def test_without_its_package_a_format_says_which_extra_brings_it(name, tmp_path, monkeypatch):
    for package in (*registry[name].packages, *registry[name].saving):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=re.escape(f"pip install 'spikescope[{registry[name].extra}]'")):
            write(recording(), name, target(name, tmp_path), signals="spike")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", IN_SECONDS)
def test_seconds_need_dt(name, tmp_path):
    needs(name)
    made, path = recording(dt=None), target(name, tmp_path)
    with pytest.raises(ValueError, match=f"to_{name}: the format has times in seconds.*Give dt=0.001"):
        write(made, name, path, signals="spike")
    assert list(tmp_path.iterdir()) == []
    assert write(made, name, path, signals="spike", dt=DT).exists()


@pytest.mark.parametrize("name", SPIKES_ALONE)
def test_what_a_format_cannot_hold_is_told(name, tmp_path):
    needs(name)
    with pytest.warns(UserWarning, match=f"to_{name} leaves out head.v: the format holds spikes alone") as caught:
        write(recording(), name, target(name, tmp_path))
    assert len(caught) == 1
    with pytest.raises(ValueError, match=r"only head\.v is there"):
        write(recording(), name, target(name, tmp_path).with_stem("other"), signals="v")


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_of_a_layer_that_belong_to_no_sample_are_left_out_and_told_where_the_method_is_called(name, tmp_path):
    needs(name)
    held = registry[name]
    learned = made_of("net.conv", "attribute:w", {run: torch.ones(1, 1) for run in (0, 2)})
    made = together([*(signal for layer in recording().values() for signal in layer.values()), learned])
    with pytest.warns(UserWarning, match=rf"to_{name} leaves out net\.conv\.attribute:w\b") as caught:
        getattr(made, f"to_{name}")(*([target(name, tmp_path)] if name in FILES else []))
    assert [told.filename for told in caught] == [__file__]
    assert ("belong to no sample" in str(caught[0].message)) == held.values


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_there_is_not_written_over(name, tmp_path):
    needs(name)
    path = target(name, tmp_path)
    write(recording(), name, path, signals="spike")
    with pytest.raises(OutputError, match="is there already"):
        write(recording(), name, path, signals="spike")
    if registry[name].suffixes:
        before = path.stat().st_ino
        write(recording(), name, path, signals="spike", overwrite=True)
        assert path.stat().st_ino != before
    else:
        with pytest.raises(OutputError, match="Give another name"):
            write(recording(), name, path, signals="spike", overwrite=True)
    assert [held.name for held in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", [name for name in FORMATS if not registry[name].suffixes])
def test_a_file_in_the_place_of_a_folder_stays_and_nobody_is_told_to_replace_it(name, tmp_path):
    needs(name)
    path = target(name, tmp_path)
    path.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"is there already\. Give another name\."):
            write(recording(), name, path, signals="spike", overwrite=overwrite)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_fails_leaves_nothing(name, tmp_path, monkeypatch):
    needs(name)
    made = recording()

    def broken(**key):
        raise ValueError("the disk has gone")

    monkeypatch.setattr(made["head"]["spike"], "read", broken)
    monkeypatch.setattr(made["head"]["spike"], "events", broken)
    with pytest.raises(ValueError, match="the disk has gone"):
        write(made, name, target(name, tmp_path), signals="spike")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_progress_goes_from_the_first_run_to_the_last(name, tmp_path):
    needs(name)
    seen = []
    write(recording(), name, target(name, tmp_path), signals="spike", progress=lambda *pair: seen.append(pair))
    assert seen == [(done, 4) for done in range(1, 5)]


@pytest.mark.parametrize("name", [name for name in FORMATS if registry[name].suffixes])
def test_the_name_of_a_file_says_its_kind(name, tmp_path):
    needs(name)
    with pytest.raises(ValueError, match=f"to_{name} writes a file whose name ends in "):
        write(recording(), name, tmp_path / "run.docx", signals="spike")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"layers": "hed"}, "layers has nothing like 'hed'; there is 'head', 'net.conv'. Did you mean head?"),
        ({"signals": ["spike", "u"]}, "signals has nothing like 'u'; there is 'spike', 'v'."),
        ({"layers": "net.*", "signals": "v"}, "no layer of layers='net.*' has a signal of signals='v'."),
        ({"runs": 1}, "there is no run 1; there are 2 runs, numbered 0 to 2."),
        ({"runs": []}, "there is no run in an empty list"),
        ({"dt": 0.5}, "dt=0.5 was given, but the recording was made with dt=0.07."),
        ({"dt": -1.0}, "dt is the seconds of a step, above 0, such as 0.001, but got -1.0."),
    ],
)
def test_what_is_chosen_wrongly_is_refused_in_words(choice, words):
    pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=re.escape(words)):
        recording().to_pandas(**choice)


def test_patterns_and_runs_choose():
    pytest.importorskip("pandas")
    made = recording()
    frame = made.to_pandas(layers=["net.*"], signals="spike", runs=slice(1, None))
    rows = sorted(map(tuple, frame[["run", "sample", "step", "neuron"]].to_numpy().tolist()))
    assert rows == [held for held in account("net.conv") if held[0] == 2]


def test_unknown_formats_and_options_are_refused_in_words():
    made = recording()
    with pytest.raises(AttributeError, match=r"'to_csv'\. There is .* Files \.csv come by to_pandas"):
        recording().to_csv("run.csv")
    with pytest.raises(AttributeError, match=r"no attribute 'to_nbw'\. There is .*Did you mean to_nwb"):
        made.to_nbw("run.nwb")
    with pytest.raises(AttributeError, match=r"has no attribute 'tables'\.$"):
        made.tables  # noqa: B018  # the access is what is tested
    with pytest.raises(TypeError, match=r"to_nwb has no option 'layer'; it has session, layers.* Did you mean layers"):
        made.to_nwb("run.nwb", layer="head")


def test_layers_of_unlike_batches_are_no_trials_together():
    pytest.importorskip("pandas")
    made = together(
        [made_of("net.conv", "spike", {0: spikes(0, 5, 2, 6)}), made_of("head", "spike", {0: spikes(1, 5, 1, 4)})]
    )
    with pytest.raises(ValueError, match=r"in run 0 there are 2 samples of net\.conv and 1 of head"):
        made.to_pandas(signals="spike")
    made.to_pandas(layers="head", signals="spike")


def test_no_format_is_loaded_before_it_is_used():
    packages = sorted({package for held in registry.values() for package in held.packages} - {"h5py"})
    command = f"import sys, spikescope.recording.export; print(sorted(set(sys.modules) & {set(packages)!r}))"
    assert fresh.run("-c", command, check=True).stdout.strip() == "[]"
