"""Pages with a picture for every neuron and every surrogate, computed by them while the site is built."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spikescope import neuron, surrogate

from .plot import Line, plot
from .text import doc_of, markdown
from .words import say

ON, OFF, T = 10, 70, 90
CURRENTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)


def _lead(doc: str) -> str:
    """A docstring without its list of arguments, its examples and its references."""
    parts = doc.split("\n\n")
    kept = [part for part in parts if not part.startswith((">>>", "- `"))]
    return markdown("\n\n".join(kept))


def make(cls: type[Any]) -> Any:
    """A neuron with the arguments it needs, and a time constant that the eye can follow."""
    given = dict(cls.example)
    wanted = inspect.signature(cls).parameters
    if "tau" in wanted:
        given["tau"] = 8.0
    if "T" in wanted:
        given["T"] = T
    torch.manual_seed(0)
    return cls(**given)


@cache  # a page in another language shows the same
def respond(cls: type[Any], current: float) -> tuple[list[float], dict[str, list[float]], Any]:
    """The output of a neuron at each step, the course of its state if it goes step by step, and the neuron."""
    node = make(cls).train() if "OTTT" not in cls.__name__ and "SLTT" not in cls.__name__ else make(cls).eval()
    x = torch.zeros(T, 1, 1)
    x[ON:OFF] = current
    with torch.no_grad():
        if node.step_mode == "m" or issubclass(cls, neuron.ParallelNeuron):
            node.step_mode = "m"
            return node(x).flatten().tolist(), {}, node
        output, course = [], {name: [] for name in cls.State._fields}
        for step in x:
            given = node(step)
            output.append(float(given if isinstance(given, Tensor) else given[0]))
            for name, values in course.items():
                values.append(float(torch.as_tensor(getattr(node, name)).flatten()[0].real))
    return output, course, node


def neuron_plot(cls: type[Any], language: str) -> str:
    """The response of a neuron to the smallest current of the list that makes it fire at least five times."""
    reads = issubclass(cls, neuron.ReadOut)
    for current in CURRENTS:
        output, course, node = respond(cls, current)
        if reads or sum(value != 0 for value in output) >= 5:
            break
    steps = [float(at) for at in range(T)]
    lines = [Line(name, steps, values) for name, values in list(course.items())[:2]]
    spikes = [] if reads else [float(at) for at, value in enumerate(output) if value]
    level = getattr(node, "v_threshold", None) if lines and not reads else None
    level = float(torch.as_tensor(level).detach().flatten()[0]) if level is not None else None
    title = f"{cls.__name__}, I = {current:g}"
    shown = plot(lines or [Line("output", steps, output)], title, say("step", language), ticks=spikes, level=level)
    pictures = [f"<figure>{shown}<figcaption>I = {current:g}</figcaption></figure>"]
    if len(lines) > 1:
        x, y = lines[0], lines[1]
        phase = plot([Line(y.name, x.y, y.y)], f"{cls.__name__}: {y.name} ({x.name})", x.name, width=220)
        pictures.append(f"<figure>{phase}<figcaption>{y.name} ({x.name})</figcaption></figure>")
    return f'<div class="plots">{"".join(pictures)}</div>'


def neurons(language: str) -> str:
    """The page of all neurons."""
    lines = [f"# {say('neurons', language)}", "", say("neurons intro", language), ""]
    for name, cls in neuron.registry.items():
        lines += [f"## {name} {{#{name}}}", "", _lead(doc_of(cls)), "", neuron_plot(cls, language), ""]
        lines += [f"[`neuron.{name}`](api/neuron.md#{name})", ""]
    return "\n".join(lines)


def surrogate_plot(cls: type[Any], language: str) -> str:
    """The slope of a surrogate, and the function it is the slope of."""
    torch.manual_seed(0)
    held, x = cls(**cls.example), torch.linspace(-2.0, 2.0, 161, requires_grad=True)
    try:
        held(x)
    except ValueError:  # takes probabilities
        x = torch.linspace(0.0, 1.0, 161, requires_grad=True)
    (slope,) = torch.autograd.grad(held(x).sum(), x)
    at = x.detach().tolist()
    lines = [Line(say("gradient", language), at, slope.tolist())]
    try:
        smooth = cls(**{**cls.example, "spiking": False})(x).detach().tolist()
    except (NotImplementedError, RuntimeError, ValueError, TypeError):
        smooth = held(x).detach().tolist()
    return plot([Line(say("primitive", language), at, smooth), *lines], cls.__name__, "x", width=320, height=180)


def surrogates(language: str) -> str:
    """The page of all surrogates."""
    lines = [f"# {say('surrogates', language)}", "", say("surrogates intro", language), ""]
    for name, cls in surrogate.registry.items():
        lines += [f"## {name} {{#{name}}}", "", _lead(doc_of(cls)), ""]
        lines += [f'<div class="plots"><figure>{surrogate_plot(cls, language)}</figure></div>', ""]
        lines += [f"[`surrogate.{name}`](api/surrogate.md#{name})", ""]
    return "\n".join(lines)
