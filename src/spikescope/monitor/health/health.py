"""Watch a network for what keeps it from learning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from torch import nn

from ...display import Displayed, Overview, amount, laid_out
from ...errors import check_listening, check_module, check_number, check_whole
from ..probe.single import GradScale
from ..record import Recording
from .finding import Finding, cells_of, words_of
from .registry import judged, open_questions
from .watch.seen import Limits, Seen

__all__ = ["Health", "health"]

_UNSEEN = "Nothing was seen: run the network while health watches it."


def health(
    net: nn.Module,
    *,
    silent: float = 0.5,
    saturated: float = 0.2,
    saturated_rate: float = 0.95,
    support: float = 0.01,
    vanishing: float = 1e-3,
    exploding: float = 1e3,
    synchrony: float = 0.9,
    update: float = 0.1,
    scale: float = 10.0,
    rate: float | None = None,
    steps: int | None = None,
    scaler: GradScale | None = None,
) -> Health:
    """Watch a network for what keeps it from learning, while the `with` block runs.

    What is wrong is told by its causes, ranked, each with its consequences, and what could not be judged is said.

    - `silent`: findings from this share of neurons on that never fired; all of them are a silent layer.
    - `saturated`: likewise, of neurons that fired in at least `saturated_rate` of the steps.
    - `support`: findings below this share of potentials at which the surrogate has over a tenth of its largest
      gradient. Surrogates without such an interval and neurons with several thresholds are not judged.
    - `vanishing`, `exploding`: findings below and above these ratios of gradient norms: in depth of a layer to the
      last one, in time of the first step to the last. They need a backward pass. Above `exploding` is a finding, too,
      how far a potential is from rest, in units of the distance of the threshold.
    - `synchrony`: findings above it, 1 where all neurons of a layer fire in the same steps.
    - `update`: findings above this part of its norm by which a weight moves in a typical one of 32 updates or more.
      What one update or ten do to a weight is a finding where that is far beyond a good beginning of any optimizer.
    - `scale`: findings above this root of the mean square of the input.
    - `rate`: findings above this mean rate of a layer, if a rate is wanted for the energy.
    - `steps`: the number of steps, if it is known: an input with it in its second axis has time and batch swapped.

    A state that goes on from sequence to sequence, which a forgotten reset leaves, is a finding at any number: not
    where functional.detach_net cut it, nor within one graph, nor once a reset was seen; single steps tell where a
    sequence begins by a backward pass over several of them before it. So is what is not finite: the first neuron that
    such a value reached and the layers after it are not judged.

    >>> net = nn.Sequential(spikescope.neuron.IFNode(step_mode="m"))
    >>> with health(net) as watch:
    ...     _ = net(torch.rand(4, 2, 3) / 10)
    >>> cause = watch.findings[0]
    >>> cause.kind, [held.kind for held in cause.consequences]
    ('never near the threshold', ['silent layer'])
    """
    check_module("health", net)
    shares = {"silent": silent, "saturated": saturated, "saturated_rate": saturated_rate, "support": support}
    for name, share in {**shares, "synchrony": synchrony}.items():
        check_number("health", f"{name} is a share, which", share, above=0, most=1)
    for name, number in {"update": update, "scale": scale, "rate": 1.0 if rate is None else rate}.items():
        check_number("health", name, number, above=0)
    if steps is not None:
        steps = check_whole("health", "steps", steps)
    check_number("health", "vanishing", vanishing, least=0)
    check_number("health", "exploding", exploding)
    if not vanishing < 1 < exploding:
        raise ValueError(
            f"health: vanishing must be below 1 and exploding above, but got vanishing={vanishing}, "
            f"exploding={exploding}."
        )
    limits = Limits(
        silent, saturated, saturated_rate, support, vanishing, exploding, synchrony, update, scale, rate, steps
    )
    return Health(Seen(net, limits, scaler))


class Health(Displayed):
    """What `health` gives: findings at any time, and the recordings that they come from."""

    def __init__(self, seen: Seen) -> None:
        self._seen: Seen | None = seen
        self._kept: tuple[list[Finding], list[str], bool] | None = None  # of a copy, and once it is closed
        self.spikes: Recording = seen.spikes
        self.gradients: Recording = seen.gradients
        self.potentials: Recording | None = seen.potentials

    @property
    def findings(self) -> list[Finding]:
        """The causes of what is wrong so far, the worst first, each with its consequences."""
        return list(self._told()[0])

    @property
    def everything(self) -> list[Finding]:
        """All findings, causes and consequences, one after another."""
        return [held for cause in self.findings for held in cause.whole()]

    @property
    def unjudged(self) -> list[str]:
        """What could not be judged, and why."""
        return list(self._told()[1])

    @property
    def order(self) -> list[str]:
        """The layers that ran, in the order in which the data came to them; of a copy, none."""
        return [] if self._seen is None else sorted(self._seen.places, key=self._seen.places.__getitem__)

    @property
    def network(self) -> nn.Module | None:
        """The network that was watched; of a copy, None."""
        return None if self._seen is None else self._seen.net

    def layers(self) -> dict[str, dict[str, Any]]:
        """What each layer of neurons showed, in the order of the data; of a copy, nothing.

        Of each the number of `neurons`, the `rate` in spikes of a neuron in a step, the share of `silent` ones, and,
        where a backward pass was seen, the `norms` of the gradient of its output at each step.
        """
        if self._seen is None:
            return {}
        if not self._seen.closed:
            self._seen.settle()
        crowds, shares, norms = self._seen.origin.crowds, self._seen.spikes.sound(), self._seen.norms()
        found: dict[str, dict[str, Any]] = {}
        for name in self.order:
            if name in crowds and crowds[name].seen:
                found[name] = {"neurons": crowds[name].neurons, "rate": crowds[name].rate}
                found[name] |= {"silent": shares[name]["silent"]} if name in shares else {}
                found[name] |= {"norms": norms[name]} if name in norms else {}
        return found

    @property
    def ran(self) -> bool:
        """Whether the network ran while it was watched."""
        return self._told()[2]

    def _told(self) -> tuple[list[Finding], list[str], bool]:
        if self._seen is None or self._kept is not None:
            return self._kept or ([], [], False)
        if not self._seen.closed:
            self._seen.settle()
        questions = [*open_questions(self._seen), *self._seen.members.changes()]
        found = judged(self._seen), questions, self._seen.ran
        if self._seen.closed:  # no more will come
            self._kept = found
        return found

    def table(self) -> str:
        """The findings as text, each cause with its consequences and advice, and what could not be judged."""
        found, questions, ran = self._told()
        if not ran:
            return _UNSEEN
        head = laid_out(cells_of(found)) if found else "No findings."
        return "\n".join([head, *words_of(found, questions)])

    def report(self, to: str | os.PathLike[str] = "health.html", **options: Any) -> Path:
        """Write one page that shows it, findings first: see `view.report`, which has the options.

        `recording.report(health=watch)` shows a recording with these findings.
        """
        import spikescope  # by the front door: the page stands above, and is asked for by name alone

        return spikescope.view.report(self, to=to, **options)

    def overview(self) -> Overview:
        found, questions, ran = self._told()
        if not (found and ran):
            remarks = ["No findings.", *words_of((), questions)] if ran else [_UNSEEN]
            return Overview("Health", remarks=[text for text in remarks if text])
        remarks = [text for text in words_of(found, questions) if text]
        return Overview(f"Health: {amount(len(found), 'finding')}", cells_of(found), remarks)

    def joined(self, findings: list[Finding], unjudged: list[str], ran: bool) -> Health:
        """A copy with the findings of several processes."""
        made = Health.__new__(Health)
        made.__dict__.update(_kept=(findings, unjudged, ran), _seen=None)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: it holds the findings, but listens to nothing."""
        return {"_kept": self._told(), "_seen": None}

    def close(self) -> None:
        """Stop for good; the findings stay. A second time does nothing."""
        if self._seen is not None:
            self._seen.close()

    def __enter__(self) -> Self:
        check_listening("health", self._seen is not None and not self._seen.closed)
        return self

    def __exit__(self, *error: object) -> None:
        if self._seen is not None:
            self._seen.members.close("health")
        self.close()
