"""What a document says of recordings, runs and networks, and what it keeps to itself."""

import copy
import json
import math
import shutil
import warnings

import pytest
import torch
from torch import nn

import spikescope
from spikescope import functional, layer, monitor, neuron, surrogate
from spikescope.recording import open_recording
from spikescope.report.views import Epoch, LayerActivity
from spikescope.train.run_folder import RunFolder
from spikescope.view import document_of, report
from spikescope.view.document import json_of, of_network, read_data, write_insight
from spikescope.view.document.parts import (
    COLUMNS,
    COURSES,
    IN_HUNDRED,
    MARKS,
    NEURONS,
    POINTS,
    ROWS,
    course_of,
    finding_of,
    liveliest,
    potential_of,
    raster_of,
)
from spikescope.view.document.privacy import without_places
from spikescope.view.document.shape import empty, value
from spikescope.view.page.bars import evidence


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        layer.Linear(6, 12, step_mode="m"),
        neuron.LIFNode(step_mode="m"),
        layer.Linear(12, 4, step_mode="m"),
        neuron.IFNode(step_mode="m", v_reset=None),
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The path of a recording of two runs, and its spikes."""
    path = tmp_path_factory.mktemp("recordings") / "run.spk"
    net, spikes = network(), []
    with monitor.record(net, ("spike", "v"), to=path, seed=3):
        for _ in range(2):
            spikes.append(net[:2](3 * torch.rand(5, 3, 6)).detach())
            spikescope.functional.reset_net(net)
    return path, torch.cat(spikes, 1)


def test_measures_of_a_recording_are_those_of_its_spikes(recorded):
    path, spikes = recorded
    first = document_of(path)["layers"][0]
    assert (first["name"], first["kind"], first["role"], first["neurons"]) == ("1", "LIFNode", "neurons", 12)
    rates = spikes.mean((0, 1), dtype=torch.float64)
    assert first["rate"] == pytest.approx(rates.mean().item(), rel=1e-5)
    assert first["silent"] == pytest.approx((rates == 0).double().mean().item(), rel=1e-5)
    assert first["spread"] == pytest.approx(rates.sort().values.tolist(), rel=1e-5)


@pytest.mark.parametrize("node", [neuron.ILIFNode, neuron.TernaryLIFNode, neuron.LIFNode])
def test_rates_of_a_recording_count_all_spikes_of_a_step(tmp_path, node):
    net = nn.Sequential(node(step_mode="m"))
    x = 6 * torch.rand(6, 4, 20, generator=torch.Generator().manual_seed(0)) - 1
    x[:, :, :2] = 99.0  # these are saturated
    with monitor.record(net, "spike", to=tmp_path / "run.spk"):
        y = net(x)
    found = document_of(open_recording(tmp_path / "run.spk"))
    assert found["layers"][0]["rate"] == pytest.approx(y.abs().mean().item(), rel=1e-5)
    most = 4 if node is neuron.ILIFNode else 1
    full = (y.abs().double().mean((0, 1)) >= 0.95 * most).double().mean().item()
    assert [held["number"] for held in found["findings"] if held["kind"] == "saturated neurons"] == (
        [pytest.approx(full)] if full >= 0.2 else []
    )


@pytest.mark.parametrize(("height", "kinds"), [(1.0, []), (9.0, ["saturated neurons"])])
def test_neurons_of_several_spikes_are_saturated_where_they_give_as_many_as_they_can(tmp_path, height, kinds):
    net = nn.Sequential(neuron.ILIFNode(tau=1 + 1e-6, step_mode="m"))
    with monitor.record(net, "spike", to=tmp_path / "run.spk"):
        net(torch.full((8, 2, 10), height))
    found = document_of(open_recording(tmp_path / "run.spk"))["findings"]
    assert [held["kind"] for held in found] == kinds
    assert all("100% of the neurons gave 95% of the spikes that they can or more" in str(held) for held in found)


class ScaledSpikes(neuron.IFNode):
    """As published code of conversions has it: a spike is as high as the threshold."""

    def single_step_forward(self, x):
        return super().single_step_forward(x) * self.v_threshold

    def multi_step_forward(self, x):
        return torch.stack([self.single_step_forward(step) for step in x])


@pytest.mark.parametrize(
    "node",
    [
        lambda: ScaledSpikes(0.1, None, step_mode="m"),
        lambda: ScaledSpikes(8.0, None, step_mode="m"),
        lambda: ScaledSpikes(8.0, None, surrogate.MultiLevelSpikeCount(4), step_mode="m"),
        lambda: ScaledSpikes(0.5, None, surrogate.MultiLevelSpikeCount(4), step_mode="m"),
        lambda: neuron.LIAFNode(torch.tanh, False, step_mode="m"),
    ],
    ids=["low", "high", "several high", "several low", "activations"],
)
def test_each_scaled_spike_is_one(tmp_path, node):
    net = nn.Sequential(node())
    x = (
        0.6
        * max(1.0, getattr(net[0], "v_threshold", 1.0))
        * torch.rand(20, 4, 6, generator=torch.Generator().manual_seed(0))
    )
    with monitor.record(net, "spike", to=tmp_path / "run.spk"):
        y = net(x)
    wanted = pytest.approx((y != 0).double().mean().item(), rel=1e-5)
    assert 0 < (y != 0).double().mean() < 1 or isinstance(net[0], neuron.LIAFNode)
    assert document_of(open_recording(tmp_path / "run.spk"))["layers"][0]["rate"] == wanted
    if not isinstance(net[0], neuron.LIAFNode):  # whose values health does not judge
        net[0].reset()
        with warnings.catch_warnings(), monitor.health(net) as watch:
            warnings.simplefilter("ignore")
            net(x)
        assert watch._seen.origin.crowds["0"].rate == wanted


def test_a_run_is_as_long_as_its_sequences_also_where_a_number_of_a_layer_was_recorded(tmp_path):
    net = network()
    with monitor.record(net, {"spike": None, "attribute:v_threshold": "1"}, to=tmp_path / "run.spk"):
        net(torch.rand(5, 3, 6))
    assert ["steps of a run", "5"] in document_of(tmp_path / "run.spk")["facts"]


def test_an_energy_without_operations_is_left_out_and_told(recorded):
    """Without the input of layers with weights it would be that of the neurons alone, beside a twin of nothing."""
    found = document_of(recorded[0], net=network())
    assert found["energy"] is None
    assert [text for text in found["unjudged"] if text.startswith("the energy: ") and "'input'" in text]


def test_a_recording_has_courses_over_its_runs_not_over_a_training(recorded, tmp_path):
    page = report(recorded[0], to=tmp_path / "page.html").read_text()
    assert 'href="#courses">Runs</a>' in page
    assert ">Over the runs</h2>" in page
    assert "Over training" not in page


@pytest.mark.parametrize("firing", range(1, 12))
def test_the_neurons_whose_potentials_are_shown_are_several(firing):
    spikes = torch.zeros(4, 12)
    spikes[0, :firing] = 1
    assert len(set(liveliest(torch.rand(4, 12), spikes))) == NEURONS


def test_a_raster_of_a_recording_is_its_spikes(recorded):
    path, spikes = recorded
    for run in (0, 1):
        (raster,) = [held for held in document_of(path, run=run, sample=2)["rasters"] if held["layer"] == "1"]
        marks = torch.zeros(5, 12)
        for row, columns in zip(raster["rows"], raster["marks"], strict=True):
            marks[columns, row] = 1
        assert torch.equal(marks, spikes[:, 3 * run + 2])


def test_a_potential_has_its_threshold_reset_and_spikes(recorded):
    path, spikes = recorded
    held = document_of(path)["potentials"]
    assert {(one["layer"], one["threshold"], one["reset"]) for one in held} == {("1", 1, 0)}
    for one in held:
        assert one["spikes"] == spikes[:, 0, one["neuron"]].nonzero().flatten().tolist()


def test_a_recording_of_a_dead_layer_has_the_finding(tmp_path):
    net = network()
    net[0].weight.data.zero_()
    net[0].bias.data.zero_()
    with monitor.record(net, to=tmp_path / "run.spk"):
        net(torch.rand(5, 3, 6))
    found = document_of(tmp_path / "run.spk")
    assert found["findings"][0]["kind"] == "silent layer"
    assert found["findings"][0]["layer"] == "1"
    assert found["judged"]
    assert any("gradients" in text for text in found["unjudged"])


def dead():
    """Two layers of neurons, the second of which has too little to fire at."""
    torch.manual_seed(0)
    layers = [nn.Linear(20, 30), neuron.LIFNode(), nn.Linear(30, 10), neuron.LIFNode()]
    net = nn.Sequential(*layers)
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        net[0].weight.mul_(4)
        net[2].weight.mul_(0.01)
    return net


def test_what_health_found_is_a_page_with_the_cause_its_line_and_the_layers(tmp_path):
    net, x = dead(), torch.rand(6, 5, 20)
    with monitor.health(net) as watch, monitor.record(net) as activity:
        net(x).sum().backward()
    found = document_of(watch)
    assert found["judged"]
    assert found["title"] == "Sequential"
    assert [(held["layer"], held["kind"]) for held in found["findings"]][:1] == [("3", "never near the threshold")]
    assert "net[2].weight" in found["findings"][0]["line"]
    assert found["findings"][0]["consequences"]
    rows = {row["name"]: row for row in found["layers"]}
    assert list(rows) == ["0", "1", "2", "3"]
    for name in ("1", "3"):
        assert rows[name]["rate"] == pytest.approx(activity[name]["rate"].mean().item(), rel=1e-5)
        assert rows[name]["silent"] == pytest.approx(activity[name]["silent share"], rel=1e-5)
        assert rows[name]["neurons"] == activity[name]["rate"].numel()
    assert found["flow"]["layers"] == ["1", "3"]
    assert len(found["flow"]["norms"][0]) == 6
    path = watch.report(tmp_path / "health.html", title="A fault")
    assert "never near the threshold" in path.read_text()
    assert read_data(path)[0]["title"] == "A fault"


def test_the_steps_of_a_gradient_are_not_taken_for_the_layer_of_that_number():
    """Evidence has the bar of the layer itself in another colour, and a layer may be called `'1'`."""
    net = nn.Sequential(layer.Linear(6, 12), neuron.LIFNode(tau=1.2, v_threshold=0.1), layer.Linear(12, 4))
    functional.set_step_mode(net, "m")
    with monitor.health(net) as watch:
        out = net(torch.rand(4, 3, 6))
        (out * torch.tensor([1e-9, 1e-6, 1e-3, 1.0]).view(4, 1, 1)).sum().backward()
    (found,) = [held for held in watch.findings if held.kind == "vanishing gradient in time"]
    assert (found.layer, found.evidence.labels) == ("1", ("step 0", "step 1", "step 2", "step 3"))
    drawn = evidence(finding_of(found))
    assert "seen" in drawn
    assert "here" not in drawn


def test_a_copy_of_health_has_its_findings_alone():
    net = dead()
    with monitor.health(net) as watch:
        net(torch.rand(6, 5, 20)).sum().backward()
    found = document_of(copy.deepcopy(watch))
    assert found["findings"] == document_of(watch)["findings"] != []
    assert found["layers"] == []
    assert found["flow"] is None


def test_a_recording_is_shown_with_what_health_found_meanwhile(tmp_path):
    net = dead()
    with monitor.health(net) as watch, monitor.record(net, ("spike", "v"), to=tmp_path / "run.spk"):
        net(torch.rand(6, 5, 20)).sum().backward()
    rec = open_recording(tmp_path / "run.spk")
    alone, both = document_of(rec), document_of(rec, health=watch)
    assert any("health=watch" in text for text in alone["unjudged"])
    assert both["findings"] == document_of(watch)["findings"] != alone["findings"]
    assert both["unjudged"] == watch.unjudged
    assert both["layers"] == alone["layers"]
    assert "net[2].weight" in rec.report(tmp_path / "report.html", health=watch).read_text()


def test_an_empty_recording_is_a_document_and_a_page(tmp_path):
    with monitor.record(network(), to=tmp_path / "run.spk"):
        pass
    found = document_of(tmp_path / "run.spk")
    assert not found["judged"]
    assert found["rasters"] == []
    assert report(tmp_path / "run.spk", to=tmp_path / "report.html").exists()


def test_a_damaged_recording_is_shown_as_far_as_it_is_whole_and_tells_no_path(recorded, tmp_path):
    path = tmp_path / "secret-project" / "run.spk"
    shutil.copytree(recorded[0], path)
    for part in path.glob("*.records"):
        held = bytearray(part.read_bytes())
        held[len(held) // 2] ^= 0xFF
        part.write_bytes(held)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where a head was hit
        found = document_of(path)
    assert any("damaged" in note for note in found["notes"])
    assert "secret-project" not in json_of(found)
    assert report(found, to=tmp_path / "report.html").exists()


def epoch(number, rate=0.25, loss=0.5):
    return Epoch(number, loss, 0.75, 0.625, 0.5, 1.5, (LayerActivity("1", "LIFNode", 8, rate, 0.25),))


def run_folder(path, config=None, epochs=2):
    with RunFolder(path) as folder:
        folder.write_config(
            {"job": "train", "recipe": {"model": "net", "data": "digits"}} if config is None else config
        )
        for number in range(1, epochs + 1):
            folder.add_epoch(epoch(number))
        return folder


def test_the_folder_of_a_run_that_goes_on_has_courses_and_no_findings(tmp_path):
    folder = run_folder(tmp_path / "run")
    found = document_of(tmp_path / "run")
    assert found["title"] == "net on digits"
    assert [held["title"] for held in found["courses"]] == ["Loss", "Accuracy", "Firing rate", "Silent neurons"]
    assert found["courses"][0]["series"][0]["values"] == [0.5, 0.5]
    assert not found["judged"]
    assert folder.report() == tmp_path / "run" / "report.html"


def test_rates_have_one_unit_in_courses_facts_map_and_table(recorded, tmp_path):
    """Of a recording the layer has the mean of its runs, which are of one size; of a run that of the last epoch."""
    run_folder(tmp_path / "run")
    run = document_of(tmp_path / "run")
    for found in (document_of(recorded[0]), run):
        (course,) = [held for held in found["courses"] if held["title"].startswith("Firing rate")]
        assert course["unit"].startswith(IN_HUNDRED)
        rates = {row["name"]: row["rate"] for row in found["layers"] if "rate" in row}
        for line in course["series"]:
            seen = line["values"][-1] if found is run else sum(line["values"]) / len(line["values"])
            assert seen == pytest.approx(100 * rates[line["name"]], rel=1e-5)
        page = report(found, to=tmp_path / "page.html").read_text()
        assert f"<b>{IN_HUNDRED}</b>" in page
        assert "firing rate <small>in 100 steps</small></th>" in page
        assert dict(found["facts"])["mean firing rate"].endswith("in 100 steps")
        assert "in a step" not in page


def test_the_folder_of_a_run_of_no_epoch_is_a_document(tmp_path):
    run_folder(tmp_path / "run", epochs=0)
    assert document_of(tmp_path / "run")["facts"] == [["epochs", "none finished"]]


def test_what_was_seen_at_the_end_comes_back_with_the_activity_on_the_test_samples(tmp_path):
    run_folder(tmp_path / "run")
    net = network()
    with monitor.health(net) as health, monitor.record(net) as activity:
        net(torch.rand(5, 3, 6)).sum().backward()
    write_insight(tmp_path / "run", of_network(net, health=health, activity=activity, source="run"))
    found = document_of(tmp_path / "run")
    assert [held["name"] for held in found["layers"]] == ["0", "1", "2", "3"]
    assert found["layers"][1]["rate"] == 0.25  # of the last epoch
    assert found["layers"][0]["parameters"] == 6 * 12 + 12
    assert found["judged"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 99}', '{"version": 1}'])
def test_a_damaged_insight_is_named(tmp_path, text):
    run_folder(tmp_path / "run")
    (tmp_path / "run" / "insight.json").write_text(text)
    with pytest.raises(ValueError, match=r"insight\.json is .*damaged"):
        document_of(tmp_path / "run")


def test_an_insight_of_another_form_is_named_with_the_place(tmp_path):
    run_folder(tmp_path / "run")
    write_insight(tmp_path / "run", empty("run", "") | {"rasters": [7]})
    with pytest.raises(ValueError, match=r"insight\.json is damaged: data\.rasters\.0 is an int"):
        document_of(tmp_path / "run")


SECRET = "ada-lovelace"


@pytest.mark.parametrize(
    "text",
    [
        f"/home/{SECRET}/run.spk is damaged",
        f"in '/home/{SECRET}/a b'",
        f"C:\\Users\\{SECRET}\\run",
        f"~{SECRET}/runs/x",
        f"git@example.org:{SECRET}/net.git",
        f"https://example.org/{SECRET}?x=1",
        f"ssh://git@example.org/{SECRET}",
        f"(../{SECRET}/weights.pt)",
        f"file=/data/{SECRET}",
    ],
)
def test_a_path_or_an_address_is_left_out_of_a_text(text):
    assert SECRET not in without_places(text)


@pytest.mark.parametrize("text", ["3 pJ/access", "a / b", "x = x / 2", "and/or", "net[0].weight.data.mul_(2)"])
def test_other_texts_stay_as_they_are(text):
    assert without_places(text) == text


def test_a_configuration_tells_no_path_unless_asked(tmp_path):
    recipe = {"model": "net", "data": "digits", "root": f"data/{SECRET}", "data_args": {"cache": f"/tmp/{SECRET}"}}
    run_folder(tmp_path / SECRET, {"job": "train", "recipe": recipe})
    assert SECRET not in json_of(document_of(tmp_path / SECRET))
    told = dict(map(tuple, document_of(tmp_path / SECRET, places=True)["configuration"]))
    assert told["recipe.root"] == f"data/{SECRET}"
    assert told["folder"].endswith(SECRET)
    assert {"machine", "user"} <= told.keys()


def test_numbers_that_are_not_finite_survive_json():
    held = course_of("Loss", "epoch", "", [1, 2, 3], {"train": [math.nan, math.inf, -math.inf]})
    values = json.loads(json_of(held))["series"][0]["values"]
    assert values == ["nan", "inf", "-inf"]
    assert math.isnan(value(values[0]))


def test_what_is_large_is_thinned_and_says_so():
    x = list(range(5000))
    peak = [0.0] * 5000
    peak[2345] = 9.0
    course = course_of("Loss", "update", "", x, {"train": peak})
    assert len(course["x"]) <= POINTS + 2
    assert 9 in course["series"][0]["values"]
    assert "of 5,000 points" in course["note"]
    many = course_of("Rate", "epoch", "", [1], {str(at): [0.0] for at in range(COURSES + 50)})
    assert len(many["series"]) == COURSES
    assert "evenly chosen" in many["note"]
    raster = raster_of("lif", torch.ones(10 * COLUMNS, 3 * ROWS))
    assert sum(map(len, raster["marks"])) <= MARKS
    assert max(map(max, raster["marks"])) < COLUMNS
    assert "in 10 steps" in raster["note"]
    assert f"of {3 * ROWS} neurons" in raster["note"]
    potential = potential_of("lif", 0, torch.tensor(peak))
    assert len(potential["x"]) <= POINTS + 2
    assert 9 in potential["values"]
    assert potential["note"]


def test_a_value_that_is_not_finite_is_never_thinned_out():
    held = torch.zeros(5000)
    held[1234] = math.nan
    assert "nan" in potential_of("lif", 0, held)["values"]


def test_a_source_that_is_none_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no"):
        document_of(tmp_path / "nothing")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "note.txt").write_text("x")
    with pytest.raises(ValueError, match=r"neither the folder of a run.*note\.txt"):
        document_of(tmp_path / "odd")
    with pytest.raises(TypeError, match=r"takes a recording.*Tensor \[2\]"):
        document_of(torch.zeros(2))
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        report(empty("run", ""), to=tmp_path)
    with pytest.raises(TypeError, match=r"health= takes what monitor\.health\(net\) gave.*Linear"):
        document_of(empty("run", ""), health=nn.Linear(1, 1))


def test_health_that_saw_nothing_is_a_page_that_says_so(tmp_path):
    watch = monitor.health(dead())
    found = document_of(watch)
    assert not found["judged"]
    assert found["findings"] == []
    watch.close()
    assert watch.report(tmp_path / "health.html").exists()
