"""Documents of many layers and epochs, and such whose words are an attack."""

import math

import torch

from spikescope.analysis import Work, energy
from spikescope.view.document.parts import course_of, energy_of, flow_of, layer_of, number, potential_of, raster_of
from spikescope.view.document.shape import empty

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x00"
KEPT = ("format", "source", "role", "form", "axis")
"""What a document says in words of its own, which are not a user's."""


def large(layers: int, epochs: int, rasters: int = 40, seed: int = 0):
    """A document of a deep network, with all its parts."""
    draw = torch.Generator().manual_seed(seed)
    found = empty("run", "a deep network")
    found["judged"] = True
    found["facts"] = [["test accuracy", "91.2 %"]]
    names = [f"stage{at // 6}.{at % 6}.neuron" for at in range(layers)]
    for at, name in enumerate(names):
        weights = {"name": name.replace("neuron", "conv"), "kind": "Conv2d", "role": "weights", "parameters": 3000 + at}
        found["layers"].append(weights | {"operations": 1e6 + at, "energy": 1e5 * (1 + math.sin(at / 7))})
        row = layer_of(name, "LIFNode", torch.rand(200, generator=draw) ** 3)
        found["layers"].append(row | {"neurons": 60000 // (1 + at) + 10, "gradient": 10 ** (-3 * at / layers)})
    x = list(range(1, epochs + 1))
    rates = {name: [0.1 + 0.05 * math.sin(at + epoch / 3) for epoch in x] for at, name in enumerate(names)}
    found["courses"] = [
        course_of("Loss", "epoch", "mean", x, {"train": [2 / (1 + epoch) for epoch in x]}),
        course_of("Firing rate", "epoch", "spikes in a step", x, rates),
        course_of("Silent neurons", "epoch", "share", x, rates, share=True),
    ]
    for name in names[:rasters]:
        found["rasters"].append(raster_of(name, (torch.rand(64, 300, generator=draw) < 0.08).float(), "sample 0"))
    for name in names[:4]:
        found["potentials"].append(potential_of(name, 3, torch.rand(64, generator=draw), [5, 9], 1.0, 0.0, "sample 0"))
    found["flow"] = flow_of({name: 10 ** (-3 * torch.rand(16, generator=draw)) for name in names})
    work = [Work(name, "Conv2d", dense=1000.0, acs=400.0 + at, outputs=10) for at, name in enumerate(names)]
    found["energy"] = energy_of(energy(work))
    found["image"] = {"words": "a digit", "rows": [[0, 255], [128, 3]]}
    found["configuration"] = [["lr", "0.1"]]
    found["versions"] = [["spikescope", "0"]]
    found["notes"] = ["Something was left out."]
    found["unjudged"] = ["the weather"]
    finding = {"layer": names[0], "kind": "silent layer", "number": 1, "threshold": 0.5, "advice": "Lower it.",
               "line": "net[0].v_threshold = 0.5", "words": "none fired", "place": "step 3", "unit": "share",
               "labels": names[:3], "values": [1, 0.5, "nan"], "limit": 0.5, "consequences": []}  # fmt: skip
    found["findings"] = [finding | {"consequences": [finding]}, finding]
    return found


def hostile(held):
    """The same with every word of a user replaced."""
    if isinstance(held, dict):
        return {key: value if key in KEPT else hostile(value) for key, value in held.items()}
    if isinstance(held, list):
        return [hostile(value) for value in held]
    return HOSTILE if isinstance(held, str) and held not in ("nan", "inf", "-inf") else held


def broken(held, odd="nan"):
    """The same with every number with a fraction replaced by one that is not finite, or was not measured."""
    if isinstance(held, dict):
        return {key: broken(value, odd) for key, value in held.items()}
    if isinstance(held, list):
        return [broken(value, odd) for value in held]
    return odd if isinstance(held, float) and number(held) is not None else held
