"""The front of the monitors: reduce a signal of many modules while the network runs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self, overload

from torch import nn

from ..errors import ShapeError, check_listening, check_module, check_whole, did_you_mean
from ..neuron.spiking import gives_spikes
from ..recording.budget import Budget
from ..recording.budget import budget as as_budget
from ..recording.disk.writer import FILL
from ..sockets import Signal
from .choose.changed import Members
from .choose.kinds import fires
from .choose.modules import Selector, by_role, select, selector
from .choose.signals import GRADIENTS, SIGNALS, is_potential, signal_of, threshold_of
from .choose.subset import Subset
from .probe.group import Probes
from .probe.single import GradScale, Probe
from .probe.start import Root
from .probe.taps import tapped
from .reduce import Raw, Reducer, registry
from .reduce.count import is_tallied
from .reduce.series import GradientNorm, StepReducer
from .reduce.squares import knowing
from .results import Recorded, Results, Threshold
from .short import forward_way, short_way
from .show.plain import spelled, words
from .stream import Streamed, stream
from .track import GradientTrack, Ledger, Track

__all__ = ["Cost", "Recording", "Streamed", "record"]


class Cost(NamedTuple):
    """What a recording has cost so far."""

    milliseconds: float
    bytes: int  # that the summaries hold
    calls: int  # values that were taken
    recomputes: int  # values that were skipped because an activation checkpoint computed them again
    transforms: int  # values that were skipped because torch.func hides them


@overload
def record(
    net: nn.Module,
    reducers: Any = ...,
    where: Any = ...,
    signal: str = ...,
    *,
    every: int = ...,
    subset: Subset | None = ...,
    scaler: GradScale | None = ...,
    budget: Budget | int | str = ...,
) -> Recording: ...
@overload
def record(
    net: nn.Module,
    reducers: Any = ...,
    where: Any = ...,
    *,
    to: str | os.PathLike[str],
    dt: float | None = ...,
    every: int = ...,
    subset: Subset | None = ...,
    scaler: GradScale | None = ...,
    budget: Budget | int | str = ...,
    sync_every: float | str | None = ...,
    seed: int | None = ...,
) -> Streamed: ...
def record(
    net: nn.Module,
    reducers: Any = None,
    where: Any = None,
    signal: str = "spike",
    *,
    to: str | os.PathLike[str] | None = None,
    dt: float | None = None,
    every: int = 1,
    subset: Subset | None = None,
    scaler: GradScale | None = None,
    budget: Budget | int | str = "1 GB",
    sync_every: float | str | None = None,
    seed: int | None = None,
) -> Recording | Streamed:
    """Reduce a signal of the chosen modules from now until `close()`, or while the `with` block runs.

    - `reducers`: what to keep: a reducer, its class, its name such as `'rate'` or `'silent share'`, or a function of
      name and module that gives one; or several in a list or a dict. None takes the rate and the silent share.
    - `where`: the modules, see `Recorder`; None takes the neurons, for `signal='spike'` without the read-outs.
    - `signal`: `'spike'`, `'current'`, `'h'`, `'v'`, `'output'`, `'input'`, `'grad_output'` or `'grad_input'`.
    - `every`: take one run in `every`. A run lasts from reset to reset; in a `net` without a state, one call.
    - `subset`: some of the neurons and samples. `scaler`: divides gradients by its scale.
    - `budget`: bytes that the summaries may take; over it the recording stops, and reading tells so. Where a kernel
      counts the spikes, four bytes a neuron serve all reducers of counts.

    With `to=` the signals themselves go to a new folder, for `spikescope.open_recording`: then the second argument is
    their names, or a dict of each name to its modules, and None takes the spikes. Besides the signals above there is
    `'attribute:NAME'` after, and `'attribute before:NAME'` before each call. What was recorded goes out whenever 8 MB
    have gathered, or the `budget` where it is smaller.

    - `dt`: the seconds of a step; `seed`: of the run. Both stand in the head, for whoever reads or runs it again.
    - `sync_every`: seconds, or bytes as `'1 MB'`, after which what came is on disk at the latest, whatever happens.

    Steps and sequences give the same results: of a step that the loss does not see, the gradient is zero.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(step_mode="m"))
    >>> with record(net, "silent share") as recording:
    ...     _ = net(torch.tensor([[[0.5, 0.25]], [[0.5, 0.25]]]))  # the first fires at step 2, the other never
    >>> recording["0"]
    0.5
    """
    check_module("record", net)
    every = check_whole("record", "every", every)
    if to is None and subset is not None and subset.time is not None:
        raise ValueError("record: reducers need steps without gaps; leave subset.time out and choose runs with every=.")
    limits = as_budget(budget)
    if to is not None:
        if signal != "spike":
            raise ValueError(f"record: with to= the signals stand in the second argument; give {signal!r} there.")
        options: dict[str, Any] = {"dt": dt, "every": every, "subset": subset, "scaler": scaler}
        fill = min(FILL, limits.bytes or FILL)
        signals = "spike" if reducers is None else reducers
        return stream(net, signals, where, _chosen, to, sync_every=sync_every, seed=seed, fill=fill, **options)
    only = {"dt": dt, "sync_every": sync_every, "seed": seed}
    if given := [name for name, held in only.items() if held is not None]:
        raise ValueError(f"record: {given[0]} is for a recording on disk; give to= as well, or leave it out.")
    reducers = ("rate", "silent share") if reducers is None else reducers
    if limits.policy != "error":
        raise ValueError(
            f"record: a summary is one whole, which no policy can cut; leave out the policy {limits.policy!r}, or keep "
            "packed spikes one by one: OutputMonitor(net, neuron.Neuron, PackedSpikes.from_dense, budget=...)."
        )
    chosen = _chosen(signal) if where is None else where
    modules = select(net, chosen, "record")
    signals = {name: signal_of(signal, module) for name, module in modules.items()}
    made = {name: reducers_of(reducers, name, module) for name, module in modules.items()}
    for row in made.values():
        for held in row.values():
            check_signal(held, signal)
    single = not isinstance(reducers, (list, tuple, Mapping))
    members = Members(net, modules, selector(chosen))
    return Recording(net, modules, signals, made, single, every, subset, scaler, limits.bytes, members)


def check_signal(reducer: Reducer, signal: str) -> None:
    """Refuse a reducer whose name would say something else than what it is of."""
    if reducer.signals and signal not in reducer.signals:
        label, wanted = words(type(reducer).__name__), " or ".join(f"signal={held!r}" for held in reducer.signals)
        raise ValueError(
            f"record: {label!r} says nothing of the signal {signal!r}; give {wanted}. {reducer.instead}".rstrip()
        )


_FIRING = Selector("role 'neuron' and spikes", lambda name, module: fires(module))


def _chosen(signal: str) -> Any:
    return _FIRING if signal == "spike" else by_role("neuron")


def _tracked(
    module: nn.Module,
    signal: Signal,
    made: Mapping[str, Reducer],
    ledger: Ledger,
    every: int,
    runs: bool,
    subset: Subset | None,
) -> tuple[Track, Signal]:
    """The track of a module, and its signal with the taps that are read in the place of values."""
    kind = GradientTrack if signal.kind in GRADIENTS else Track
    track = kind(module, made, ledger, every, runs, signal)
    taps = tapped(module, signal, made, subset)
    track.tallied = {label: held for label in taps if is_tallied(held := made[label])}
    track.tapped = frozenset(taps.keys() - track.tallied.keys())
    if signal.kind == "output":
        track.trusted = partial(gives_spikes, module)
    if taps.keys() == made.keys():
        signal = Signal("output")  # for when and how much: its values are not read
    return track, signal._replace(taps=tuple(sorted({tap for names in taps.values() for tap in names})))


def _ahead(name: str, module: nn.Module, signal: Signal, track: GradientTrack, root: Root) -> Probe:
    """The probe that tells a track of gradients when the forward pass goes on."""
    forward = Signal(signal.kind.removeprefix("grad_"), signal.name)
    probe = Probe(name, module, forward, track.take_forward, root=root)
    probe.short = forward_way(track, probe)
    return probe


class Recording(Results):
    """What `record` gives: the results so far, by the name of the module. Reading them changes nothing.

    A module of which nothing was measured is not in the mapping, but in `never_fired`.
    """

    def __init__(
        self,
        net: nn.Module,
        modules: Mapping[str, nn.Module],
        signals: Mapping[str, Signal],
        made: Mapping[str, Mapping[str, Reducer]],
        single: bool,
        every: int,
        subset: Subset | None,
        scaler: GradScale | None,
        limit: int | None,
        members: Members,
    ) -> None:
        self.single = single
        self._ledger, self.members = Ledger(limit), members
        self._probes: list[Probe] = []  # those whose values are measured
        plugged: list[Probe] = []  # those too that tell gradients when the forward pass goes on
        self._tracks: dict[str, Track] = {}
        root = Root(net)
        runs = bool(root.stateful)
        for name, module in modules.items():
            track, signal = _tracked(module, signals[name], made[name], self._ledger, every, runs, subset)
            self._tracks[name] = track
            take = track.take_told if signal.taps else track.take
            missed = track.miss if isinstance(track, GradientTrack) else None
            each = every if runs else 1
            probe = Probe(
                name, module, signal, take, root=root, subset=subset, scaler=scaler, every=each, missed=missed
            )
            probe.short = short_way(track, probe)
            self._probes.append(probe)
            plugged.append(probe)
            track.probe = probe
            if signal.kind == "grad_output" and any(isinstance(held, GradientNorm) for held in made[name].values()):
                probe.squared = knowing  # the kernel of a neuron reads the gradient anyway
                probe.point.refresh()
            if isinstance(track, GradientTrack):
                plugged.append(_ahead(name, module, signal, track, root))
        self.courses = frozenset(
            label for row in made.values() for label, held in row.items() if isinstance(held, StepReducer)
        )
        self.wholes = frozenset(label for row in made.values() for label, held in row.items() if isinstance(held, Raw))
        self.thresholds = {
            name: Threshold(value, signals[name].name == "h")
            for name, module in modules.items()
            if is_potential(module, signals[name]) and (value := threshold_of(module)) is not None
        }
        self._plugged = Probes(self, plugged)

    def _row(self, name: str) -> dict[str, Any]:
        track = self._tracks[name]
        summaries = {label: track.summary(label) for label in track.totals}
        try:
            return {
                label: track.totals[label].reducer.result(held) for label, held in summaries.items() if held is not None
            }
        except ValueError as error:  # what was seen is not what a reducer is for
            kind = type(error) if type(error) in (ValueError, ShapeError) else ValueError
            raise kind(
                f"{name!r}: {error} The results of each other module are under its own name; "
                "where= takes the modules to watch."
            ) from error

    def summary(self, name: str, label: str) -> Any:
        """The summary of one reducer of a module, closed; None where nothing was seen."""
        return self._tracks[name].summary(label)

    @property
    def errors(self) -> dict[str, BaseException]:
        """The errors that ended a probe, by the name of the module; reading the result of that module raises it."""
        return {probe.name: probe.error for probe in self._plugged if probe.error is not None}

    def sound(self) -> dict[str, Any]:
        """The results of the modules of which no probe has failed."""
        return {name: self.given(row) for name, row in self.sound_rows().items()}

    def raise_error(self, names: Collection[str]) -> None:
        """Raise the error that ended a probe of one of these modules, if there is one."""
        self._plugged.raise_error(names)

    def rows(self) -> dict[str, dict[str, Any]]:
        self.raise_error(self._tracks)
        return {name: self._row(name) for name in self}

    def __getitem__(self, name: str) -> Any:
        if name not in self._tracks:
            raise KeyError(f"{name!r} is not recorded; there is {', '.join(map(repr, self._tracks))}.")
        self.raise_error((name,))
        if not self._tracks[name].seen:
            todo = self._todo(self._tracks[name])
            raise KeyError(f"Nothing of {name!r} was recorded yet: {todo} See recording.never_fired.")
        return self.given(self._row(name))

    def __iter__(self) -> Iterator[str]:
        self.raise_error(self._tracks)  # a table without the modules that failed would look whole
        return (name for name, track in self._tracks.items() if track.seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def todo(self) -> str:
        return "Nothing was seen: " + self._todo(next(iter(self._tracks.values())))

    def sound_rows(self) -> dict[str, dict[str, Any]]:
        failed = self.errors
        return {name: self._row(name) for name, track in self._tracks.items() if track.seen and name not in failed}

    def failures(self) -> Mapping[str, BaseException]:
        return self.errors

    def _todo(self, track: Track) -> str:
        if self.cost().transforms:
            return (
                "the network ran inside vmap or grad of torch.func, which hide its values. Run it outside of them too."
            )
        if isinstance(track, GradientTrack):
            return "run the network and its backward pass inside the block."
        return "run the network inside the block."

    @property
    def never_fired(self) -> tuple[str, ...]:
        """The modules of which no value has come: not run, or run by a direct call of `forward()`, past the hooks."""
        return tuple(name for name, track in self._tracks.items() if not track.seen)

    def cost(self) -> Cost:
        """What the recording has cost so far."""
        reports = [probe.report() for probe in self._probes]
        spent = sum(probe.nanoseconds for probe in self._plugged) / 1e6
        return Cost(
            spent,
            self._ledger.bytes,
            sum(track.taken for track in self._tracks.values()),
            sum(report.recomputes for report in reports),
            sum(report.transforms for report in reports),
        )

    def close(self) -> None:
        """Stop for good; the results stay. A second time does nothing."""
        self.members.close("record")
        self._plugged.close()

    def __enter__(self) -> Self:
        check_listening("record", self._plugged.alive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.members.close("record")
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is what was seen so far: it listens to nothing, and holds no module."""
        errors = {name: f"{type(error).__name__}: {error}" for name, error in self.errors.items()}
        thresholds = {name: tuple(held) for name, held in self.thresholds.items()}
        seen = self.sound_rows(), self.single, sorted(self.courses), self.never_fired
        return Recorded, (*seen, errors, sorted(self.wholes), thresholds)


def reducers_of(given: Any, name: str, module: Any) -> dict[str, Reducer]:
    """The reducers of one module by their names."""
    if isinstance(given, Mapping):
        made = {str(label): _reducer(held, name, module) for label, held in given.items()}
    elif isinstance(given, (list, tuple)):
        found = [_reducer(held, name, module) for held in given]
        made = {words(type(held).__name__): held for held in found}
        if len(made) < len(found):
            raise ValueError("record: two reducers have the same name; give them in a dict, with names of your own.")
    else:
        held = _reducer(given, name, module)
        made = {words(type(held).__name__): held}
    if not made:
        raise ValueError("record: got no reducers; give at least one, such as 'rate'.")
    return made


def _reducer(given: Any, name: str, module: Any) -> Reducer:
    if isinstance(given, str):
        known = {words(key): cls for key, cls in registry.items()}
        key = spelled(given, known)
        if key not in known:
            near = did_you_mean(key, known)
            if given in SIGNALS:
                held = "packed" if given == "spike" else "raw"
                near = (
                    f" It is a signal: record(net, {held!r}, signal={given!r}) keeps its values in memory, and "
                    f"record(net, {given!r}, to='run.spk') on disk."
                )
            raise ValueError(f"record: there is no reducer {given!r}.{near} There is {', '.join(map(repr, known))}.")
        given = known[key]
    elif not isinstance(given, (type, Reducer)) and callable(given):
        given = given(name, module)
    if isinstance(given, type) and issubclass(given, Reducer):
        if given.example:
            raise TypeError(
                f"record: {given.__name__} needs the arguments {', '.join(given.example)}; give an instance of it, or "
                "a function of name and module that makes one."
            )
        given = given()
    if not isinstance(given, Reducer):
        raise TypeError(
            f"record: a reducer is an instance, a class, a name such as 'rate', or a function of name and module that "
            f"gives one, but got {given!r}."
        )
    return given
