"""One network, one input: what a pass takes, and which layers take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..analysis import Energy
from ..display import Displayed, Overview, size_of
from ..errors import check_choice, check_module, check_tensor, dims
from ..functional import reset_net
from ..internals import out_of_inference
from ..models import Summary, summary
from ..monitor import energy
from .clock import LOSS, Clock, Timing, timed, waiting
from .passes import PRECISIONS, Counted, counted, infer, step, under_clock
from .peak import peak_of

__all__ = ["KindProfile", "LayerProfile", "Profile", "profile"]

_KEPT = "- (lean, or in segments: less than its layers save; fit_memory(net, x) prints how much)"


@dataclass(frozen=True)
class LayerProfile:
    """One module, with what its children do not account for.

    - `forward`, `backward`: seconds of a training step. `parameters`, `macs`, `neurons`: as in `models.summary`.
    - `spikes`: a sample, in all steps. `energy`: pJ a sample.
    """

    name: str
    kind: str
    forward: float
    backward: float
    parameters: int
    macs: int
    neurons: int
    spikes: float
    energy: float


@dataclass(frozen=True)
class KindProfile:
    """All modules of a kind: `count` of them, and their seconds forwards and backwards, also as shares of the whole."""

    kind: str
    count: int
    forward: float
    backward: float
    forward_share: float
    backward_share: float
    energy: float


@dataclass(frozen=True, repr=False)
class Profile(Displayed):
    """What `profile` gives; printed it is a table, `as_dict()` is plain values.

    - `inference`: a forward pass in eval without gradients. `training`: forwards and backwards in train.
    - `inference_peak`, `training_peak`: bytes beyond network and input; None where the system does not tell.
    - `kept`: bytes kept for the backward pass; None where the network keeps less than its layers save, as a lean one.
    - `spikes`, `rate`, `silent`: a sample, a neuron and step, a share; in eval, as the energy.
    - `energy`, `twin_energy`: pJ a sample, with memory, and of the network without spikes.
    """

    name: str
    shape: tuple[int, ...]
    samples: int
    device: str
    amp: str
    inference: Timing
    training: Timing
    inference_peak: int | None
    training_peak: int | None
    kept: int | None
    parameters: int
    macs: int
    neurons: int
    spikes: float
    rate: float
    silent: float
    energy: float
    twin_energy: float
    layers: tuple[LayerProfile, ...]
    remarks: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[KindProfile, ...]:
        """The kinds of layers, the longest first; functions between layers belong to the module that calls them."""
        ahead = sum(held.forward for held in self.layers) or 1.0
        back = sum(held.backward for held in self.layers) or 1.0
        found: dict[str, list[LayerProfile]] = {}
        for held in self.layers:
            found.setdefault(held.kind, []).append(held)
        made = []
        for kind, layers in found.items():
            forward, backward = sum(held.forward for held in layers), sum(held.backward for held in layers)
            spent = sum(held.energy for held in layers)
            made.append(KindProfile(kind, len(layers), forward, backward, forward / ahead, backward / back, spent))
        return tuple(sorted(made, key=lambda held: -(held.forward + held.backward)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a file of JSON."""
        return asdict(self) | {"kinds": [asdict(held) for held in self.kinds]}

    def overview(self) -> Overview:
        cells = [["kind", "layers", "forward ms", "%", "backward ms", "%", "energy nJ"]]
        cells += [
            [
                held.kind,
                str(held.count),
                f"{1e3 * held.forward:.3f}",
                f"{100 * held.forward_share:.1f}",
                f"{1e3 * held.backward:.3f}",
                f"{100 * held.backward_share:.1f}",
                f"{held.energy / 1e3:,.1f}" if held.energy else "",
            ]
            for held in self.kinds
        ]
        title = f"{self.name}: {dims(self.shape)}, {self.samples} samples, {self.device}, amp {self.amp}"
        lines = [
            title,
            f"forward            {_time(self.inference, self.samples)}, peak {_bytes(self.inference_peak)}",
            f"forward + backward {_time(self.training, self.samples)}, peak {_bytes(self.training_peak)}",
            f"kept for backward  {_KEPT if self.kept is None else size_of(self.kept)}",
            f"parameters         {self.parameters:,}; {self.neurons:,} neurons",
            f"spikes (in eval)   {self.spikes:,.1f} a sample, {100 * self.rate:.2f} per 100 neurons and steps, "
            f"{100 * self.silent:.1f} % silent",
            f"energy (in eval)   {self.energy / 1e3:,.1f} nJ a sample, {self.twin_energy / 1e3:,.1f} nJ without spikes",
            "",
        ]
        return Overview("\n".join(lines), cells, self.remarks)


def profile(
    net: nn.Module,
    x: Tensor,
    *,
    name: str = "",
    amp: str = "off",
    compiled: bool = False,
    seconds: float = 2.0,
    remarks: tuple[str, ...] = (),
) -> Profile:
    """Run a copy of `net` on `x` from rest, forwards, and forwards and backwards, and say what it takes.

    - `x`: what the network takes: for `step_mode='m'` a sequence `[T, N, *]`.
    - `amp`: `'off'`, `'bf16'` or `'fp16'`. `compiled`: time the network through `torch.compile`.
    - `seconds`: for each of the two measurements of time; after a first call, which is not counted.

    The times in all are of the network as it is; the times by layer are the least of three passes with hooks on every
    module, which switch off what joins layers. The loss is the mean square of the outputs. Energy is by
    `monitor.energy`, and what spikes cost depends on the weights and on what `x` shows. Spikes are of eval: norms that
    no training has moved yet want `settle_norms(net, x)` before, or their neurons may be silent.

    >>> net = nn.Sequential(spikescope.layer.Linear(4, 2), spikescope.neuron.IFNode(), spikescope.layer.Linear(2, 3))
    >>> held = profile(net, torch.rand(8, 4), seconds=0.0)
    >>> held.parameters, held.neurons, sorted((kind.kind, kind.count) for kind in held.kinds if kind.backward)
    (19, 2, [('(loss)', 1), ('IFNode', 1), ('Linear', 2)])
    """
    check_module("profile", net)
    check_tensor("profile", "x", x)
    check_choice("profile", "amp", amp, PRECISIONS)
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise ValueError(f"profile: seconds must be a number from 0 on, but got {seconds!r}.")
    device, wait = x.device, waiting(x.device)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
        net, x = deepcopy(net), out_of_inference(x)
        run: Any = torch.compile(net) if compiled else net
        net.eval()
        inference_peak, inference = _measured(partial(infer, net, run, x, amp), seconds, device)
        found = counted(net, x)  # before a pass in train moves the running statistics of norms
        spent = energy(net, x, samples=found.samples)
        net.train()
        training_peak, training = _measured(partial(step, net, run, x, amp), seconds, device)
        clocks = [under_clock(net, x, amp, wait) for _ in range(3)]
        net.zero_grad(set_to_none=True)
        reset_net(net)
        whole = summary(net, x)
    layers = tuple(_layers(net, clocks, whole, found, spent))
    return Profile(
        name=name or type(net).__name__,
        shape=tuple(x.shape),
        samples=found.samples,
        device=str(device),
        amp=amp,
        inference=inference,
        training=training,
        inference_peak=inference_peak,
        training_peak=training_peak,
        kept=whole.kept,
        parameters=sum(held.numel() for held in net.parameters()),
        macs=whole.macs,
        neurons=whole.neurons,
        spikes=sum(found.spikes.values()) / found.samples,
        rate=found.rate,
        silent=found.silent,
        energy=spent.total,
        twin_energy=spent.twin,
        layers=layers,
        remarks=remarks,
    )


def _measured(call: Callable[[], None], seconds: float, device: torch.device) -> tuple[int | None, Timing]:
    call()  # compiles kernels, and makes what lasts
    return peak_of(call, device), timed(call, seconds, waiting(device))


def _layers(
    net: nn.Module, clocks: list[Clock], whole: Summary, found: Counted, spent: Energy
) -> Iterator[LayerProfile]:
    """A row for each module that took time, in the order of the network, and one for the loss."""
    rows = {held.name: held for held in whole.layers}
    joules = {held.work.name: held.total for held in spent.layers}
    for name, module in [*net.named_modules(), (LOSS, None)]:
        forward, backward = (
            min(times.get(name, 0.0) for times in held) for held in zip(*map(_times, clocks), strict=True)
        )
        if not forward and not backward:
            continue
        row = rows.get(name)
        yield LayerProfile(
            name,
            LOSS if module is None else type(module).__name__,
            forward,
            backward,
            row.parameters if row else 0,
            row.macs if row else 0,
            row.neurons if row else 0,
            found.spikes.get(name, 0.0) / found.samples,
            joules.get(name, 0.0),
        )


def _times(clock: Clock) -> tuple[dict[str, float], dict[str, float]]:
    return clock.forward, clock.backward


def _time(held: Timing, samples: int) -> str:
    return f"{1e3 * held.least:,.3f} ms ({1e3 * held.median:,.3f} in the median of {held.calls}), " + (
        f"{samples / held.least:,.1f} samples a second"
    )


def _bytes(held: int | None) -> str:
    return "unknown here" if held is None else size_of(held)
