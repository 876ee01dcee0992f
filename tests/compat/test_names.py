"""What published code imports is here, and the tables of names in the guide are those of the aliases."""

import importlib
import re
from pathlib import Path

import pytest
from count_names import counts, in_a_release, status, text
from name_table import CHINESE, GUIDE, gathered, in_chinese, table

import spikescope
from spikescope.compat import install, uninstall
from spikescope.compat.absent import AREAS, INSTEAD


@pytest.fixture(autouse=True)
def aliases():
    uninstall()
    yield
    uninstall()


def test_the_names_of_published_code_can_be_imported():
    held = counts()
    assert held["names here"] + held["names refused"] + held["names unknown"] == held["names"] == 549
    assert held["names here"] >= 280
    assert held["uses here"] >= 1780
    assert held["uses"] == 2070
    assert held["repositories here"] >= 120
    assert held["names unknown"] == held["names unknown to every release"]  # nobody's release has what we have not
    assert held["names unknown"] <= 20
    assert held["repositories"] == 139
    assert held["repositories unknown"] <= 12


def test_the_readme_says_how_many():
    assert f"\n{text()}\n" in (ROOT / "README.md").read_text(), "python tests/compat/count_names.py"


def test_a_name_of_a_part_that_is_not_here_is_not_counted_as_here():
    install(force=True)
    told = {"activation_based.auto_cuda.base.CKernel2D": "refused", "timing_based.neuron.Tempotron": "refused"}
    told |= {"activation_based.cuda_kernel.tensor_cache.BoolTensorCache": "here", "activation_based.auto_cuda": "here"}
    assert {name: status(f"spikingjelly.{name}") for name in told} == told


def test_a_name_is_looked_up_in_the_releases():
    assert in_a_release("spikingjelly.activation_based.neuron.LIFNode")
    assert in_a_release("spikingjelly.datasets")
    assert not in_a_release("spikingjelly.activation_based.neuron.LIFNodes")


def test_the_table_in_the_guide_is_that_of_the_aliases():
    written = GUIDE.read_text()
    assert written == table(), "run `python tests/compat/name_table.py`"
    assert CHINESE.read_text() == in_chinese(written), "run `python tests/compat/name_table.py`"


def test_a_name_that_runs_is_there_under_the_heading_where_the_table_has_it():
    missing = []
    for group, names in gathered().items():
        for name, (_, became) in names.items():
            if became != "not" and status(".".join(filter(None, ("spikingjelly", group, name)))) != "here":
                missing.append(f"{group}.{name}")
    assert not missing


ROOT = Path(__file__).parents[2]
ADVICE = [words for _, words in INSTEAD] + list(AREAS.values())


@pytest.mark.parametrize("words", sorted(set(ADVICE)))
def test_advice_names_what_there_is(words):
    for room, name in re.findall(r"\b([a-z]\w+)\.(\w+)", words):
        if room in spikescope.__all__:
            assert hasattr(getattr(spikescope, room), name), f"{room}.{name}"


@pytest.mark.parametrize(
    ("dotted", "words"),
    [
        ("clock_driven.neuron.GeneralNode", r"neuron.GeneralNode is not here: derive a neuron from neuron.BaseNode"),
        ("clock_driven.ann2snn.download_url", "nothing is downloaded"),
        ("activation_based.auto_cuda.generator.analyse_graph", "kernels are not written by hand here"),
        ("activation_based.lava_exchange.to_lava_block", "there is no exchange with Lava"),
        ("activation_based.op_counter.ComputeEnergyProfiler", "op_counter.SimpleEnergyProfiler"),
        ("activation_based.op_counter.neuromc.core.NeuroMCEnergyProfiler", "no chip is simulated here"),
        ("activation_based.op_counter.NeuroMCEnergyProfiler", "no chip is simulated here"),
        ("activation_based.op_counter.PowerCounter", "spikescope.compat.op_counter has no counterpart"),
        ("activation_based.model.spike_dhs.SpikeDHS", r"surrogate.ATan\(alpha=nn.Parameter"),
        ("activation_based.model.sew_resnet.SEWResNet34Builder", "PyTorch's own torchrun"),
        ("activation_based.model.spikformer.SpikformerConfig", r"spikescope.models.create\(name\)"),
        ("datasets.es_imagenet.ESImageNetEventBuilder", "a data set makes its frames itself"),
        ("datasets.base.FrameFixedNumberBuilder", "derives from datasets.NeuromorphicDatasetFolder"),
        ("datasets.base.NeuromorphicDatasetConfig", "a data set makes its frames itself"),
        ("timing_based.neuron.Tempotron", "neurons of precise spike times"),
        ("activation_based.functional.lava_cuba_lif_step", "there is no exchange with Lava"),
        ("activation_based.functional.neuron_implementation", r"node.implementation\(x\) says what runs"),
        ("activation_based.functional.conv_bn_fusion.pack_conv_bn_train_modules", "leave the call out"),
    ],
)
def test_what_is_not_here_imports_and_is_refused_on_use(dotted, words):
    install(force=True)
    module, _, name = f"spikingjelly.{dotted}".rpartition(".")
    held = getattr(importlib.import_module(module), name)
    assert not isinstance(spikescope.neuron.LIFNode(), held)
    with pytest.raises(NotImplementedError, match=words):
        held(1)
