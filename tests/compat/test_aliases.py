"""The import paths of SpikingJelly, in one process: what is found, what is refused, and what is never shadowed."""

import copy
import importlib
import importlib.util
import pickle
import sys

import pytest
import torch

import spikescope
from registries import apart
from spikescope.compat import install, uninstall
from spikescope.compat.ages.neurons import multi_step
from spikescope.compat.aliases import SOURCES, installed_at
from spikescope.neuron import IFNode, IntegrateAndFire, LIFNode, registry

STATED = {
    "activation_based": "base neuron surrogate layer functional monitor encoding learning rnn ann2snn",
    "activation_based.cuda_kernel": "tensor_cache",
    "clock_driven": "neuron layer functional surrogate monitor encoding",
    "cext": "neuron",
}
STATED_PATHS = [f"{package}.{name}" for package, names in STATED.items() for name in names.split()]
PATHS = list(SOURCES)
FOUND_BY = [type(finder).__module__ for finder in sys.meta_path]
"""Who finds modules while tests are collected, after the package in which examples were looked for."""


@pytest.fixture
def aliases():
    uninstall()
    assert install()
    yield
    uninstall()


def test_the_paths_of_the_contract_are_in_the_table():
    assert set(STATED_PATHS) <= set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_imports_in_every_form(aliases, path):
    full = f"spikingjelly.{path}"
    package, _, name = full.rpartition(".")
    scope = {}
    exec(f"from {package} import {name} as first", scope)  # before anybody has imported the module by its path
    module = importlib.import_module(full)
    assert scope["first"] is module
    assert module.__name__ == full == module.__spec__.name
    assert module is sys.modules[full]
    assert module.__package__ == full
    scope = {}
    exec(f"import {full} as held\nfrom {package} import {name} as other\nimport spikingjelly", scope)
    assert scope["held"] is scope["other"] is module
    walked = scope["spikingjelly"]
    for step in path.split("."):
        walked = getattr(walked, step)
    assert walked is module
    assert module.__all__
    assert set(module.__all__) <= set(dir(module))
    scope = {}
    exec(f"from {full} import *", scope)
    assert set(module.__all__) <= set(scope)


def test_an_attribute_of_a_package_is_imported_when_it_is_used(aliases):
    import spikingjelly

    assert "spikingjelly.activation_based" not in sys.modules
    assert spikingjelly.activation_based.neuron.LIFNode is spikescope.neuron.LIFNode
    assert spikingjelly.activation_based.layer.Conv2d is spikescope.layer.Conv2d


def test_names_are_ours(aliases):
    from spikingjelly.activation_based import base, functional, learning, neuron
    from spikingjelly.activation_based.cuda_kernel.tensor_cache import bool_spike_to_float, float_spike_to_bool
    from spikingjelly.clock_driven import layer as old_layer
    from spikingjelly.clock_driven.monitor import Monitor

    assert neuron.BaseNode is IntegrateAndFire
    assert issubclass(base.MemoryModule, spikescope.base.MemoryModule)
    assert issubclass(spikescope.base.MemoryModule, base.MemoryModule)
    assert base.StepModule is spikescope.base.StepModule
    assert functional.reset_net is spikescope.functional.reset_net
    assert learning.fptt_online_training is spikescope.functional.fptt_online_training
    assert Monitor is spikescope.monitor.Monitor
    assert old_layer.LowPassSynapse is spikescope.layer.SynapseFilter
    spikes = torch.tensor([[0.0, 1.0, 1.0]])
    assert bool_spike_to_float(*float_spike_to_bool(spikes)).equal(spikes)
    scope = {}
    exec("from spikingjelly.activation_based.surrogate import *", scope)
    assert scope["ATan"] is spikescope.surrogate.ATan
    assert pickle.loads(pickle.dumps(neuron.LIFNode)) is LIFNode
    assert neuron.LIFNode.__module__.startswith("spikescope.")


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("import spikingjelly.training", "no spikingjelly.training among the aliases .* spikingjelly.clock_driven"),
        ("from spikingjelly import pictures", "no spikingjelly.pictures among the aliases"),
        ("import spikingjelly.activation_based.recurrent", r"activation_based.recurrent .*activation_based.neuron"),
        ("import spikingjelly.activation_based.layer.folds.one", r"has no folds"),
        (
            "from spikingjelly.activation_based.functional.net_config import reset_nets",
            r"functional.net_config is an alias of spikescope.functional, which has no reset_nets. .*reset_net",
        ),
        (
            "from spikingjelly.activation_based.neuron import LIFNodes",
            r"alias of spikescope.neuron, which has no LIFNodes. Did you mean .*LIFNode",
        ),
        ("from spikingjelly.clock_driven.encoding import Zzz", r"no Zzz. See dir\(spikescope.encoding\)"),
        (
            "import spikingjelly.activation_based.neuron.LIFNode",
            "is not a module: write `from spikingjelly.activation_based",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_words(aliases, statement, text):
    with pytest.raises(ImportError, match=text):
        exec(statement, {})


def test_an_unknown_attribute_is_an_attribute_error_in_words(aliases):
    from spikingjelly.activation_based import neuron

    assert not hasattr(neuron, "LIFNodes")
    assert not hasattr(neuron, "__wrapped__")
    with pytest.raises(AttributeError, match="Did you mean"):
        neuron.LIFNodes  # noqa: B018  # the access is what is tested


def test_uninstalling_leaves_no_trace():
    uninstall()
    before = list(sys.meta_path)
    assert install()
    assert install()  # once more changes nothing
    importlib.import_module("spikingjelly.cext.neuron")
    uninstall()
    uninstall()
    assert sys.meta_path == before
    assert not [name for name in sys.modules if name.split(".")[0] == "spikingjelly"]
    with pytest.raises(ModuleNotFoundError, match="No module named 'spikingjelly'"):
        importlib.import_module("spikingjelly")


def test_whoever_was_collected_or_ran_before_has_left_no_aliases():
    assert "spikescope.compat.aliases" not in FOUND_BY
    assert "spikescope.compat.aliases" not in [type(finder).__module__ for finder in sys.meta_path]


def test_the_aliases_of_one_test_are_not_those_of_the_next():
    with apart():
        sys.modules.pop("spikescope.compat.spikingjelly", None)
        importlib.import_module("spikescope.compat.spikingjelly")
        importlib.import_module("spikingjelly.activation_based.neuron")
    assert not [name for name in sys.modules if name.split(".")[0] == "spikingjelly"]
    with pytest.raises(TypeError, match="IFNode integrates real numbers"):
        IFNode()(torch.ones(2, dtype=torch.int64))


@pytest.fixture
def real_package(tmp_path, monkeypatch):
    """A package of that name that can be imported."""
    uninstall()
    (tmp_path / "spikingjelly" / "activation_based").mkdir(parents=True)
    (tmp_path / "spikingjelly" / "__init__.py").write_text("real = True\n")
    (tmp_path / "spikingjelly" / "activation_based" / "__init__.py").write_text("")
    (tmp_path / "spikingjelly" / "activation_based" / "neuron.py").write_text("LIFNode = 'the real one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "spikingjelly" / "__init__.py"
    uninstall()
    for name in [name for name in sys.modules if name.split(".")[0] == "spikingjelly"]:
        del sys.modules[name]


@pytest.mark.parametrize("loaded", [False, True])
def test_the_real_package_is_shadowed_by_force_alone(real_package, loaded):
    if loaded:
        importlib.import_module("spikingjelly.activation_based.neuron")
    assert installed_at() == str(real_package)
    with pytest.warns(UserWarning, match=r"installed \(.*__init__.py\), .*install\(force=True\)"):
        assert not install()
    real = importlib.import_module("spikingjelly")
    assert real.real
    assert install(force=True)
    assert importlib.import_module("spikingjelly.activation_based.neuron").LIFNode is LIFNode
    uninstall()
    assert importlib.import_module("spikingjelly") is real
    assert importlib.import_module("spikingjelly.activation_based.neuron").LIFNode == "the real one"


def test_importing_the_module_beside_the_real_package_warns_and_breaks_nothing(real_package):
    sys.modules.pop("spikescope.compat.spikingjelly", None)
    with pytest.warns(UserWarning, match="is what `import spikingjelly` gives"):
        importlib.import_module("spikescope.compat.spikingjelly")
    assert importlib.import_module("spikingjelly").real


MULTI_STEP = ["IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode", "IzhikevichNode", "LIAFNode"]


@pytest.mark.parametrize("name", MULTI_STEP)
def test_multi_step_nodes_are_those_of_ours_in_multi_step_mode(aliases, name):
    from spikingjelly.clock_driven import neuron

    base = registry[name]
    node, wanted = (getattr(neuron, f"MultiStep{name}")(**base.example), base(**base.example, step_mode="m"))
    assert isinstance(node, base)
    assert f"MultiStep{name}" not in registry
    torch.manual_seed(0)
    x_seq = torch.rand(5, 2, 3) * 2
    assert torch.equal(node(x_seq), wanted(x_seq))
    assert node.v_seq.shape == (5, 2, 3)
    assert torch.equal(node.v_seq[-1], node.v)
    for copied in (copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))):
        twin = copied(node)
        assert type(twin) is type(node)
        assert torch.equal(twin(x_seq), node(x_seq))


@pytest.mark.filterwarnings("ignore:.*there is no backend 'cupy' here:UserWarning")
def test_multi_step_nodes_take_the_arguments_and_the_backends_of_their_time(aliases):
    from spikingjelly.clock_driven import neuron, surrogate

    node = neuron.MultiStepLIFNode(3.0, False, 0.7, None, surrogate.ATan(), detach_reset=True, backend="cupy")
    assert (node.tau, node.decay_input, node.v_threshold, node.v_reset) == (3.0, False, 0.7, None)
    assert (node.detach_reset, node.backend, node.step_mode) == (True, "auto", "m")
    assert neuron.MultiStepIFNode(backend="torch").backend == "torch"
    assert neuron.MultiStepIFNode(step_mode="s").step_mode == "s"
    by_position = neuron.MultiStepLIFNode(2.0, True, 1.0, 0.0, None, True, "torch")
    assert (by_position.backend, by_position.step_mode, by_position.store_v_seq) == ("torch", "m", True)
    with pytest.raises(TypeError, match=r"MultiStepIFNode\(v_threshold.*\): too many positional arguments"):
        neuron.MultiStepIFNode(1.0, 0.0, None, False, "torch", True, "m")
    with pytest.raises(ValueError, match="backend must be one of"):
        neuron.MultiStepIFNode(backend="opencl")


@pytest.mark.parametrize("surrogate", ["ATan", "Sigmoid"])
@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_nodes_of_the_extension(aliases, name, surrogate):
    from spikingjelly.cext import neuron

    cls = getattr(neuron, f"MultiStep{name}")
    node = cls(alpha=3.5, surrogate_function=surrogate)
    assert type(node.surrogate_function) is getattr(spikescope.surrogate, surrogate)
    assert node.surrogate_function.alpha == 3.5
    assert type(cls(alpha=2.0).surrogate_function) is spikescope.surrogate.ATan
    assert cls().surrogate_function.alpha == 2.0
    tau = {"tau": 100.0} if name == "LIFNode" else {}
    wanted = registry[name](**tau, step_mode="m", surrogate_function=getattr(spikescope.surrogate, surrogate)(3.5))
    x_seq = torch.rand(4, 2, 3, requires_grad=True)
    grads = [torch.autograd.grad(made(x_seq).sum(), x_seq)[0] for made in (node, wanted)]
    assert torch.equal(*grads)
    assert type(pickle.loads(pickle.dumps(node))) is cls
    with pytest.raises(ValueError, match=r"surrogate_function must be one of 'ATan', 'Sigmoid', but got 'Erf'"):
        cls(surrogate_function="Erf")


def test_multi_step_dropout(aliases):
    from spikingjelly.clock_driven import layer

    torch.manual_seed(0)
    for cls, shape in ((layer.MultiStepDropout, (5, 2, 30)), (layer.MultiStepDropout2d, (5, 2, 30, 2, 2))):
        dropped = cls(0.5)(torch.ones(shape))
        assert torch.equal(dropped, dropped[:1].expand_as(dropped))  # one mask for the whole sequence
        assert 0 < (dropped == 0).float().mean() < 1


def test_a_second_make_of_a_multi_step_node_leaves_the_registry_alone():
    before = dict(registry)
    multi_step(IFNode)
    assert registry == before


@pytest.mark.filterwarnings("ignore:IFNode. the input is of dtype:UserWarning")
def test_integers_are_float32_under_the_aliases_alone(aliases):
    from spikingjelly.activation_based import neuron

    y = neuron.IFNode()(torch.ones(2, dtype=torch.int64))
    assert (y.dtype, y.tolist()) == (torch.float32, [1.0, 1.0])
    uninstall()
    with pytest.raises(TypeError, match="IFNode integrates real numbers"):
        IFNode()(torch.ones(2, dtype=torch.int64))


def test_settings_that_a_script_assigns_reach_the_data_sets(aliases, monkeypatch, caplog):
    from spikingjelly import configure

    from spikescope.datasets.folders import settings

    monkeypatch.setenv(settings.WORKERS, "1")
    monkeypatch.setenv(settings.COMPRESSED, "1")
    configure.max_threads_number_for_datasets_preprocess = 3
    configure.save_datasets_compressed = False
    assert (settings.workers(), settings.compressed()) == (3, False)
    assert configure.max_threads_number_for_datasets_preprocess == 3
    assert not caplog.records
    for _ in range(2):
        configure.cuda_threads = 1024
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "configure.cuda_threads steers kernels written by hand"
    ]


@pytest.mark.parametrize("path", ["activation_based.ann2snn", "clock_driven.ann2snn"])
def test_a_package_hands_on_the_modules_that_it_brings_its_names_from(path):
    install(force=True)
    held = {}
    exec(f"from spikingjelly.{path} import *", held)
    assert held["modules"].VoltageScaler is held["VoltageScaler"]
    assert held["converter"].Converter is held["Converter"]
    assert callable(held["utils"].download_url)
    assert "examples" not in held
    exec("from spikingjelly.activation_based.neuron import *", held := {})
    assert "lif" not in held
