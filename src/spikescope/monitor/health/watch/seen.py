"""All that health has seen of a network: what the judges of causes read."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from ....neuron.nonlinear import LIAFNode
from ....neuron.spiking import is_binary
from ....recording.records import Moment
from ....sockets import Signal
from ...choose.changed import Members
from ...choose.kinds import fires, most_spikes
from ...choose.modules import by_role, named, select, unwrapped, where
from ...choose.signals import share_that_never_fires
from ...probe.group import closed_with
from ...probe.single import GradScale, Probe
from ...record import Recording, record
from ...reduce import GradientNorm, SaturatedShare, SilentShare, SupportShare
from ...reduce.pieces import whole
from ...reduce.support import marked
from .gathered import Gathered, Told, errors_of
from .inputs import Inputs
from .origin import Origin
from .state import State
from .threshold import Threshold
from .weights import Arrival, Weights, parameters

__all__ = ["Limits", "Seen"]


class Limits(NamedTuple):
    """When a number is a finding; see `health`."""

    silent: float = 0.5
    saturated: float = 0.2
    saturated_rate: float = 0.95
    support: float = 0.01
    vanishing: float = 1e-3
    exploding: float = 1e3
    synchrony: float = 0.9
    update: float = 0.1
    scale: float = 10.0
    rate: float | None = None
    steps: int | None = None


class Seen:
    """Listens to a network until `close()`.

    - `spikes`, `gradients`, `potentials`: recordings. `origin`: the calls of neurons and layers. `inputs`, `weights`,
      `arrival`: see their classes. `net`: held while it listens, and `members`: its neurons.
    """

    def __init__(self, net: nn.Module, limits: Limits, scaler: GradScale | None) -> None:
        firing = where(lambda name, held: _is_judged(held))
        self.net, self.limits, self.modules = net, limits, named(net)
        if not any(map(firing.matches, self.modules, self.modules.values())):
            raise LookupError(
                f"health judges neurons that give spikes, and {type(net).__name__} has none. Of networks of another "
                "library, monitor.adopt says what is a neuron."
            )
        self.members = Members(net, select(net, by_role("neuron"), "health"))
        reducers = {
            "silent": SilentShare(),
            "saturated": lambda _, held: _saturated(limits.saturated_rate, most_spikes(held)),
        }
        self.spikes = record(net, reducers, firing)
        self.gradients = record(net, GradientNorm(), firing, "grad_output", scaler=scaler)
        self.potentials = _potentials(net, _supports(net))
        self.near = _potentials(net, _upper_halves(net))
        recorded = [held for held in (self.potentials, self.near) if held is not None]
        pairs = [pair for held in recorded for pair in zip(held._probes, held._tracks.values(), strict=True)]
        thresholds = [Threshold(probe, track) for probe, track in pairs]
        backwards = {probe.name: probe for probe in self.gradients._probes}
        origin = self.origin = Origin(net, backwards, set(self.spikes._tracks))
        inputs = self.inputs = Inputs()
        self._lost: dict[str, Exception] = {}  # by what was looked at last
        self._told: list[Told] | None = None  # of what is joined, what each process told
        weights = self.weights = Weights(parameters(net))
        arrival = self.arrival = Arrival(weights.held)

        uses = origin.uses

        def weigh() -> None:
            """Take note of an update."""
            if weights.look(arrival.waiting):
                arrival.updated()

        def take(value: Any, moment: Moment) -> None:
            uses.begin()
            weigh()
            inputs.look(value)

        self._weigh = weigh  # which knows nothing of this object: probes hold it
        self.root = Probe("", unwrapped(net), Signal("input"), take, root=net)
        self._closed = closed_with(self, [*thresholds, self.root, self.arrival])

    @property
    def recordings(self) -> dict[str, Recording]:
        """The recordings that judges read, by the name of the attribute."""
        held = {name: getattr(self, name) for name in ("spikes", "gradients", "potentials", "near")}
        return {name: one for name, one in held.items() if one is not None}

    @property
    def terms(self) -> list[str]:
        """What processes must have alike, so that what they have seen can be joined."""
        weights = [f"a weight {name!r} of shape {tuple(held.shape)}" for name, held in self.weights.held.items()]
        neurons = [f"a neuron {name!r}, {type(held.neuron).__name__}" for name, held in self.origin.states.items()]
        return [f"health with {self.limits}", *weights, *neurons]

    def told(self) -> Told:
        """What this process has seen beside its recordings."""
        errors = [(name, f"{type(error).__name__}: {error}") for name, error in self.errors]
        return Told({name: getattr(self, name).told() for name in _WATCHERS}, errors, self.learned)

    def joined(self, told: Sequence[Told], summaries: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Seen:
        """What all processes have seen, by what they told and the merged summaries of the recordings."""
        made = copy.copy(self)
        made._told = list(told)
        for name in _WATCHERS:
            setattr(made, name, getattr(self, name).joined([one.watchers[name] for one in told]))
        failed = {name for one in told for name, _ in one.errors}
        for name, own in self.recordings.items():
            setattr(made, name, cast(Any, Gathered(own, summaries[name], failed)))
        return made

    @property
    def watching(self) -> list[Any]:
        """Recordings, and what else has probes for each layer."""
        held = (self.spikes, self.gradients, self.potentials, self.near, self.origin)
        return [one for one in held if one is not None]

    @property
    def errors(self) -> list[tuple[str, BaseException]]:
        """The errors that ended a probe, each with the name of the module."""
        if self._told is not None:
            return errors_of([told.errors for told in self._told])
        found = [(name, error) for held in self.watching for name, error in held.errors.items()]
        found += [] if self.root.error is None else [("", self.root.error)]
        known = {name for name, _ in found}
        return found + [(name, error) for name, error in self._lost.items() if name not in known]

    @property
    def closed(self) -> bool:
        """Whether it has stopped listening."""
        return not self._closed.alive

    def close(self) -> None:
        """Stop for good; a second time does nothing."""
        if self.closed:
            return
        for members in (self.members, *(held.members for held in self.recordings.values())):
            members.close()  # whoever has health says it
        self.settle()
        for held in self.watching:
            held.close()
        self._closed()

    def settle(self) -> None:
        """Take note of what the last call left: of the update after it, and the state that compiled code wrote last."""
        for name, look in [("", self._weigh), *((n, held.settle) for n, held in self.origin.states.items())]:
            try:
                look()
            except Exception as error:  # no reading and no end of a block is to fail for it
                self._lost[name] = error

    @property
    def ran(self) -> bool:
        """Whether the network has run."""
        return bool(self.origin.order)

    @property
    def learned(self) -> bool:
        """Whether a backward pass came by."""
        if self._told is not None:
            return any(told.learned for told in self._told)
        return any(probe.fired for probe in self.gradients._probes) or any(self.arrival.counts.values())

    @property
    def places(self) -> dict[str, int]:
        """To each layer its place in the order of the data; of the network itself, and of what did not run, none."""
        return {name: place for name, place in self.origin.order.items() if name}

    def state(self, name: str) -> State:
        """What the state of a neuron showed."""
        return self.origin.states[name]

    def activity(self) -> dict[str, dict[str, float]]:
        """The silent and the saturated share of each layer that nothing else spoils.

        Of maps it is the silent channels that count: in a few samples many places of a channel see nothing to fire at.
        Neurons with an infinite threshold are not among those of which it is a share.
        """
        spoiled, found = self.origin.spoiled(), {}
        for name, row in self.spikes.sound().items():
            crowd, module = self.origin.crowds[name], self.modules[name]
            silent, mute = row["silent"], share_that_never_fires(module)
            if name in spoiled or mute >= 1:  # it may have been set since the neurons were chosen
                continue
            if crowd.silent_channels is not None:
                silent, mute = crowd.silent_channels, share_that_never_fires(module, crowd.axes)
            found[name] = {**row, "silent": max(0.0, silent - mute) / (1 - mute)}
        return found

    def norms(self) -> dict[str, Tensor]:
        """The norm of the gradient of each layer at each step, in the order of the data."""
        sound = self.gradients.sound()
        return dict(sorted(sound.items(), key=lambda item: self.places.get(item[0], -1)))

    def bad_steps(self) -> dict[str, int]:
        """In how many steps the gradient of each layer was not finite."""
        held = {name: self.gradients.summary(name, "gradient norm") for name in self.norms()}
        squares = {name: whole(one.pieces)[:, 0] for name, one in held.items()}
        return {name: int((~held.isfinite()).sum()) for name, held in squares.items()}

    def before(self, name: str) -> tuple[str, Any] | None:
        """The layer with weights, or the norm, that ran last before a neuron, with its name."""
        places = self.places
        place, drives = places.get(name, -1), by_role("synapse") | by_role("norm")
        earlier = [n for n, at in places.items() if at < place and drives.matches(n, self.modules[n])]
        earlier = [n for n in earlier if isinstance(getattr(self.modules[n], "weight", None), Tensor)]
        latest = max(earlier, key=places.__getitem__, default=None)
        return None if latest is None else (latest, self.modules[latest])


def _is_judged(module: nn.Module) -> bool:
    """Whether it is a neuron that is to fire: one with an infinite threshold is a read-out."""
    return fires(module) and not isinstance(module, LIAFNode) and share_that_never_fires(module) < 1


def _saturated(share: float, most: int) -> SaturatedShare:
    return SaturatedShare(share * most, most)


_WATCHERS = ("origin", "inputs", "weights", "arrival")


def _potentials(net: nn.Module, chosen: dict[str, SupportShare]) -> Recording | None:
    """A recording of potentials before the reset, by these reducers."""
    if not chosen:
        return None
    return record(net, lambda name, held: chosen[name], where(lambda name, held: name in chosen), "h")


def _with_one_threshold(net: nn.Module) -> dict[str, Any]:
    """Neurons that give spikes by one threshold; one of a tensor is of a batch, as set_threshold_margin gives it."""
    held: dict[str, Any] = {
        name: module for name, module in named(net).items() if is_binary(module) and _is_judged(module)
    }
    return {name: m for name, m in held.items() if not (type(m.v_threshold) is Tensor and m.v_threshold.numel() > 1)}


def _supports(net: nn.Module) -> dict[str, SupportShare]:
    """Where the surrogate of each of these neurons lets a gradient through."""
    found: dict[str, SupportShare] = {}
    known: dict[Any, SupportShare | None] = {}  # to look for it takes longer than all else that a neuron needs
    for name, module in _with_one_threshold(net).items():
        mark = marked(module.surrogate_function)
        if mark not in known:
            try:
                known[mark] = SupportShare.of(module.surrogate_function)
            except ValueError:  # its gradient is large in several places, or nowhere
                known[mark] = None
        if (share := known[mark]) is not None:
            found[name] = replace(share, v_threshold=module.v_threshold)
    return found


def _upper_halves(net: nn.Module) -> dict[str, SupportShare]:
    """The potentials that lie nearer to the threshold than to rest, or above it."""
    return {
        name: SupportShare(-State(module).scale / 2, math.inf, module.v_threshold)
        for name, module in _with_one_threshold(net).items()
    }
