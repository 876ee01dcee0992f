"""The command `bench-model`: what a network takes when it runs, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .counts import count, threads
from .shared import Pair, refuse

__all__ = ["add_bench_model"]

_EPILOG = """examples:
  spikescope bench-model sew_resnet18 -T 4 -b 8
  spikescope bench-model spikformer_cifar10 --model-arg neuron=ParametricLIFNode --amp bf16 --device cuda
  spikescope bench-model DVSGestureNet --weights runs/a/best.safetensors --data dvs128gesture --root /data -T 16
  spikescope bench-model my_nets:make --image 2 34 34 --json -      the numbers alone, on the terminal

Shown are the time of a forward pass in eval and of forwards and backwards in train, the highest memory of each beyond
network and input, what is kept for the backward pass, spikes and energy of a sample beside that of the network without
spikes, and what each kind of layer takes of time and energy. --json writes all of it, layer by layer.

Without --weights the weights are random; without --data the input is noise, one image repeated for all steps where the
model is made for images, another frame at each step where it is made for events. What spikes cost is then of these.

exit status: 0 done, 2 it could not be done"""


def add_bench_model(commands: Any) -> None:
    """Add `spikescope bench-model`."""
    parser = commands.add_parser(
        "bench-model",
        help="measure time, memory, spikes and energy of a network, by kind of layer",
        description="Measure what a network takes when it runs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_bench_model)
    parser.add_argument("model", metavar="MODEL", help="a name of `spikescope train --list-models`, or module:function")
    network = parser.add_argument_group("network")
    network.add_argument("--model-arg", dest="model_args", action=Pair, metavar="NAME=VALUE", help="of its function")
    network.add_argument("--weights", type=Path, metavar="FILE", help="trained weights")
    network.add_argument("--step-mode", choices=("m", "s"), default="m", help="sequences at once, or step by step (m)")
    network.add_argument("--backend", metavar="NAME", help="of all neurons, such as torch (as they choose)")
    network.add_argument("--lean", action="store_true", help="keep spikes as bits for the backward pass")
    network.add_argument("--compile", action="store_true", help="time the network through torch.compile")
    given = parser.add_argument_group("input")
    given.add_argument("-T", dest="T", type=count, default=4, metavar="N", help="time steps (4)")
    given.add_argument("-b", "--batch-size", type=count, default=8, metavar="N", help="samples at a time (8)")
    given.add_argument("--image", type=count, nargs=3, metavar=("C", "H", "W"), help="of the noise (as the model has)")
    given.add_argument("--data", metavar="TEXT", help="samples of data instead: a name, or module:function")
    given.add_argument("--root", "--data-path", metavar="TEXT", help="the folder or the file of the data")
    given.add_argument("--data-arg", dest="data_args", action=Pair, metavar="NAME=VALUE", help="of the data")
    run = parser.add_argument_group("run")
    run.add_argument("--amp", nargs="?", const="bf16", choices=("off", "bf16", "fp16"), default="off", help="(off)")
    run.add_argument("--seconds", type=float, default=3.0, metavar="S", help="for each of the two times (3)")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and noise (0)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (auto)")
    run.add_argument("--threads", type=threads, metavar="N", help="CPU threads (as PyTorch chooses)")
    run.add_argument("--json", metavar="FILE", help="write the numbers there; - prints them alone")


def _bench_model(arguments: argparse.Namespace) -> int:
    import torch

    from ..errors import MissingExtraError
    from ..files import write_whole
    from ..functional import keep_heap
    from ..profiling import profile

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    kept = keep_heap()
    try:
        torch.manual_seed(arguments.seed)
        net, x, remarks = _prepared(arguments)
        if kept and x.device.type == "cpu":
            remarks += ("The process keeps the memory that it frees: functional.keep_heap().",)
        made = profile(
            net,
            x,
            name=arguments.model,
            amp=arguments.amp,
            compiled=arguments.compile,
            seconds=arguments.seconds,
            remarks=remarks,
        )
    except (MissingExtraError, ValueError, TypeError, LookupError, RuntimeError, FileNotFoundError) as error:
        return refuse(error)
    text = json.dumps(made.as_dict(), indent=2)
    if arguments.json == "-":
        print(text)
        return 0
    print(made.overview().text(rows=None))
    if arguments.json is not None:
        write_whole(Path(arguments.json), text + "\n")
    return 0


def _prepared(arguments: argparse.Namespace) -> tuple[Any, Any, tuple[str, ...]]:
    """The network and its input on the device, and what to say of them."""
    from ..functional import lean, set_backend, set_step_mode
    from ..neuron import Neuron
    from ..profiling import InSteps, settle_norms
    from ..train import chosen_device, load_weights

    device = chosen_device(arguments.device)
    net, x, words = (_on_data if arguments.data else _on_noise)(arguments)
    set_step_mode(net, arguments.step_mode)
    if arguments.backend is not None:
        set_backend(net, arguments.backend, Neuron)
    whole = (InSteps(net) if arguments.step_mode == "s" else net).to(device)
    x = x.to(device)
    if arguments.weights is not None:
        load_weights(arguments.weights, net)
        words += (f"Weights of {arguments.weights}.",)
    else:
        settle_norms(whole, x)
        words += ("Random weights; the running statistics of norms are those of this input.",)
    if arguments.lean:
        lean(net)
    if arguments.compile:
        words += ("The times in all are of the compiled network, those of the layers of the plain one.",)
    return whole, x, words


def _on_data(arguments: argparse.Namespace) -> tuple[Any, Any, tuple[str, ...]]:
    """The network with the classes of the data, and the first samples of its test part."""
    import torch

    from ..train import Recipe, direct_encoding, load_data, make_network

    model_args, data_args = arguments.model_args or {}, arguments.data_args or {}
    recipe = Recipe(model=arguments.model, model_args=model_args, data=arguments.data, T=arguments.T)
    data = load_data(recipe.data, arguments.root, recipe.T, data_args)
    number = min(arguments.batch_size, len(data.test))
    x = torch.stack([torch.as_tensor(data.test[index][0]) for index in range(number)])
    x = x.transpose(0, 1).contiguous() if data.sequences else direct_encoding(x, arguments.T)
    return make_network(recipe, data), x, (f"The first {number} samples of the test part of {recipe.data}.",)


def _on_noise(arguments: argparse.Namespace) -> tuple[Any, Any, tuple[str, ...]]:
    """The network as it is by itself, and noise of the size that it is made for."""
    import torch

    from ..models import VARIANTS
    from ..train import build_network, direct_encoding

    net = build_network(arguments.model, arguments.model_args or {})
    if arguments.image is None and arguments.model not in VARIANTS:
        raise ValueError("--image is missing: channels, height and width of what the network takes, or --data.")
    image = arguments.image or VARIANTS[arguments.model].image
    if image[0] == 2:
        x = torch.rand(arguments.T, arguments.batch_size, *image)
        return net, x, ("Noise, another frame at each step.",)
    x = direct_encoding(torch.rand(arguments.batch_size, *image), arguments.T)
    return net, x, ("Noise, one image repeated for all steps.",)
