"""What the code of papers makes of the same weights: writes `published.json`.

`python tests/models/published_code.py FOLDER`, where FOLDER has a clone of each repository under the repository's name.
SpikingJelly's names are this library's aliases; of timm and einops a few names that compute nothing are put in place.
"""

import importlib.util
import json
import sys
import types
import warnings
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from model_cases import frames
from published_cases import CASES, exact_weights

from spikescope import compat, neuron, surrogate

STORED = Path(__file__).with_name("published.json")
FORMER = {"num_heads": 4, "mlp_ratios": 4, "num_classes": 4, "sr_ratios": 1, "embed_dims": 32}
PLIF = {"T": 4, "init_tau": 2.0, "use_plif": True, "use_max_pool": True, "alpha_learnable": False}
PLIF |= {"detach_reset": True, "channels": 8}

MADE = {  # to each case the file, the class or function, and its arguments
    "Spikformer, CIFAR": ("spikformer/cifar10/model.py", "Spikformer", {"depths": 1, "in_channels": 3, **FORMER}),
    "Spikformer, CIFAR10-DVS": ("spikformer/cifar10dvs/model.py", "Spikformer", {"depths": 1, **FORMER}),
    "Spikformer, ImageNet": ("spikformer/imagenet/model.py", "Spikformer", {"depths": 1, "in_channels": 3, **FORMER}),
    "QKFormer, CIFAR": ("QKFormer/cifar10/model.py", "spiking_transformer", {"depths": 4, "in_channels": 3, **FORMER}),
    "QKFormer, CIFAR10-DVS": ("QKFormer/cifar10-dvs/model.py", "vit_snn", {"depths": 2, **FORMER}),
    "QKFormer, ImageNet": (
        "QKFormer/imagenet/qkformer.py",
        "hierarchical_spiking_transformer",
        {"depths": 4, "in_channels": 3, **FORMER},
    ),
    "Spike-driven Transformer": (
        "Spike-Driven-Transformer/model/spikeformer.py",
        "SpikeDrivenTransformer",
        {"depths": 1, "in_channels": 3, **FORMER, "num_heads": 8},
    ),
    "Spike-driven Transformer, events": (
        "Spike-Driven-Transformer/model/spikeformer.py",
        "SpikeDrivenTransformer",
        {"depths": 1, **FORMER, "num_heads": 8, "pooling_stat": "0011", "dvs_mode": True},
    ),
    "SEW-ResNet": (
        "Spike-Element-Wise-ResNet/imagenet/sew_resnet.py",
        "sew_resnet18",
        {"num_classes": 4, "connect_f": "ADD"},
    ),
    "SEW-ResNet, bottlenecks": (
        "Spike-Element-Wise-ResNet/imagenet/sew_resnet.py",
        "SEWResNet",
        {"block": "Bottleneck", "layers": [1, 1, 1, 1], "num_classes": 4, "connect_f": "IAND"},
    ),
    "Spiking ResNet": ("Spike-Element-Wise-ResNet/imagenet/spiking_resnet.py", "spiking_resnet18", {"num_classes": 4}),
    "MS-ResNet": (
        "MS-ResNet/models/MS_ResNet.py",
        "ResNet_origin_18",
        {"block": "BasicBlock_18", "num_block": [2, 2, 2, 2], "num_classes": 4},
    ),
    "MS-ResNet, deep": (
        "MS-ResNet/models/MS_ResNet.py",
        "ResNet_104",
        {"block": "BasicBlock_104", "num_block": [1, 1, 1, 1], "num_classes": 4},
    ),
    **{
        f"PLIF net, {data}": (
            "Parametric-Leaky-Integrate-and-Fire-Spiking-Neuron/codes/models.py",
            name,
            {**PLIF, "number_layer": layers},
        )
        for data, name, layers in (
            ("N-MNIST", "NMNISTNet", 2),
            ("CIFAR10-DVS", "CIFAR10DVSNet", 4),
            ("DVS128 Gesture", "DVS128GestureNet", 5),
        )
    },
}


def put_in_place():
    """Modules with the names that the code imports and that compute nothing here."""
    held = {
        "timm.models": {"create_model": None},
        "timm.models.layers": {
            "to_2tuple": lambda x: (x, x) if isinstance(x, int) else tuple(x),
            "trunc_normal_": nn.init.trunc_normal_,
            "DropPath": nn.Identity,
        },
        "timm.models.registry": {"register_model": lambda build: build},
        "timm.models.vision_transformer": {"_cfg": dict},
        "einops.layers.torch": {"Rearrange": None},
        "torchvision": {"transforms": None},
    }
    for name, names in held.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        vars(sys.modules[name]).update(names)
    compat.install()


def module_of(folder, file):
    """The module of a file; the transformers that import a folder beside them find it."""
    root = folder / Path(file).parts[0]
    sys.path.insert(0, str(root))
    spec = importlib.util.spec_from_file_location(file.replace("/", "_").removesuffix(".py"), folder / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(root))
    if hasattr(module, "PLIFNode"):  # written for an age whose neurons and dropout had other arguments
        module.PLIFNode = lambda init_tau, **_: neuron.ParametricLIFNode(init_tau=init_tau)
        module.surrogate = types.SimpleNamespace(ATan=lambda learnable=False: surrogate.ATan())
        module.layer = types.SimpleNamespace(Dropout=lambda p, dropout_spikes=False: nn.Dropout(p))
    return module


def row(folder, case):
    """Names, shapes and outputs of a network."""
    file, name, given = MADE[case]
    module = module_of(folder, file)
    given = {key: getattr(module, held) if key == "block" else held for key, held in given.items()}
    net = getattr(module, name)(**given).eval()
    shapes = {key: list(held.shape) for key, held in net.state_dict().items()}
    net.load_state_dict(exact_weights(shapes))
    with torch.no_grad():
        y = net(2 * frames(CASES[case][1]))
    return {"shapes": shapes, "outputs": (y[0] if isinstance(y, tuple) else y).tolist()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    put_in_place()
    lines = []
    for case in CASES:
        made = row(Path(sys.argv[1]), case)
        print(case, len(made["shapes"]), made["outputs"])
        lines.append(f"{json.dumps(case)}: {json.dumps(made, separators=(',', ':'))}")
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
