"""Local learning: weights that change with the spikes before and behind them, with or without a reward."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .base import MemoryModule, StepModule
from .errors import ShapeError, check_module, check_state, check_switches, check_whole, dims
from .errors import explain_absent as _explain_absent
from .monitor import InputMonitor, OutputMonitor

__all__ = ["MSTDPETLearner", "MSTDPLearner", "STDPLearner"]

_CURE = (
    "Call learner.reset() before each batch of other samples, of this shape or another: functional.reset_net(net) does "
    "not reach the learner, which is not a part of the network. It forgets what was seen and not learned from."
)

WeightFunction = Callable[[Tensor], Tensor]
_TAUS = ("tau_pre", "tau_post", "tau_trace")


def _apart(step: Callable[..., Any]) -> Callable[..., Any]:
    """Learn without a graph, and outside of the inference mode, whose tensors no optimizer could use later."""

    @functools.wraps(step)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return step(*args, **kwargs)

    return run


def same(weight: Tensor) -> Tensor:
    """The weight itself."""
    return weight


def _is_number(given: Any) -> bool:
    """Whether it is a real number, or a tensor or an array of one."""
    given = torch.from_numpy(given) if isinstance(given, np.ndarray) and given.dtype.kind in "iuf" else given
    single = isinstance(given, Tensor) and given.numel() == 1 and not given.is_complex()
    return single or (isinstance(given, Real) and not isinstance(given, bool))


def through(synapse: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """What the synapse computes, without its bias and past its hooks."""
    if isinstance(synapse, nn.Linear):
        return F.linear(x, weight)
    assert isinstance(synapse, nn.Conv1d | nn.Conv2d)
    return synapse._conv_forward(x, weight, None)


def correlation(synapse: Any, pre: Tensor, post: Tensor) -> Tensor:
    """For each weight the sum of `pre * post` over all the places, samples and steps where it joins the two.

    This is the gradient of `post * synapse(pre)` with respect to the weight, whatever stride, padding and groups are.
    """
    pre, post = (held.flatten(0, -synapse.weight.ndim) for held in (pre, post))  # [T, N, *] to [T * N, *]
    with torch.enable_grad(), torch.autocast(pre.device.type, enabled=False):
        weight = torch.zeros_like(synapse.weight, dtype=pre.dtype, requires_grad=True)  # its values have no part in it
        (found,) = torch.autograd.grad(through(synapse, pre, weight), weight, post)
    return found


def leaky(trace: Any, tau: float) -> Any:
    """What is left of a trace after a step, by the rule of Euler."""
    return trace - trace / tau


def exponential(trace: Any, tau: float) -> Any:
    """What is left of a trace after a step, exactly."""
    return trace * math.exp(-1 / tau)


def change_of(
    synapse: Any, tracked: Sequence[Tensor], up: Tensor, down: Tensor, reward: Tensor | float = 1.0
) -> Tensor:
    """The change of the weights, summed over samples, places and steps.

    - `tracked`: the spikes before and behind the synapse and their traces. `reward` weighs samples, or steps.
    - `up`, `down`: what the present weights make of potentiation and of depression.
    """
    x, y, pre, post = tracked
    depression = correlation(synapse, x, reward * post)
    potentiation = correlation(synapse, pre, reward * y)
    return up * potentiation - down * depression


class _Learner(MemoryModule):
    """What the rules share: observing, traces, and where the change of the weights goes.

    A copy, by deepcopy or pickle, observes copies of both layers and goes on from the same traces.
    """

    _left = staticmethod(leaky)  # of a trace, after a step
    tau_pre: float
    tau_post: float
    trace_pre: Tensor | float
    trace_post: Tensor | float

    def __init__(
        self,
        step_mode: str,
        synapse: nn.Module,
        sn: nn.Module,
        taus: dict[str, float],
        f_pre: WeightFunction,
        f_post: WeightFunction,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if not isinstance(synapse, nn.Linear | nn.Conv1d | nn.Conv2d):
            raise TypeError(
                f"{owner} learns the weights of a Linear, Conv1d or Conv2d, but synapse is {type(synapse).__name__}."
            )
        check_module(owner, sn)
        for name, tau in taus.items():
            setattr(self, name, tau)
        for name, function in (("f_pre", f_pre), ("f_post", f_post)):
            if not callable(function):
                raise TypeError(f"{owner}: {name} must be a function of the weight, but got {function!r}.")
        self.step_mode = step_mode
        self.f_pre, self.f_post = f_pre, f_post
        self._observed = (synapse, sn)  # in a tuple they are no children: a learner neither owns nor resets them
        self.register_memory("trace_pre", 0.0)
        self.register_memory("trace_post", 0.0)
        self._observe()

    def _observe(self) -> None:
        synapse, sn = self._observed
        self.in_spike_monitor = InputMonitor(synapse, type(synapse))
        self.out_spike_monitor = OutputMonitor(sn, type(sn))

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, which observes the copies of the layers and has seen what this one has."""
        state = super().__getstate__()
        monitors = [state.pop(name) for name in ("in_spike_monitor", "out_spike_monitor")]
        seen = [monitor.__getstate__()["_records"][0] for monitor in monitors]
        return state | {"_seen": (seen, self.in_spike_monitor.is_enable())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: held for name, held in state.items() if name != "_seen"})
        if not all("_modules" in vars(module) for module in self._observed):
            owner, synapse = type(self).__name__, type(self.synapse).__name__
            raise TypeError(
                f"{owner} cannot be copied or unpickled as a part of the {synapse} that it observes, which is not "
                "there before its parts are. Keep the learner beside the layers, not inside of them."
            )
        self._observe()
        if "_seen" not in state:  # of a version that kept nothing of what it has seen
            return
        seen, enabled = state["_seen"]
        self.in_spike_monitor.records, self.out_spike_monitor.records = seen
        if not enabled:
            self.disable()

    def __setattr__(self, name: str, given: Any) -> None:
        if name in _TAUS and not (_is_number(given) and 1 <= given < math.inf):
            raise ValueError(f"{type(self).__name__}: {name} must be finite and at least 1 step, but got {given!r}.")
        super().__setattr__(name, given)

    @property
    def synapse(self) -> Any:
        """The layer whose weights are learned."""
        return self._observed[0]

    @property
    def sn(self) -> nn.Module:
        """The spiking neurons behind it."""
        return self._observed[1]

    def enable(self) -> None:
        """Observe from now on; a learner is made so."""
        self.in_spike_monitor.enable()
        self.out_spike_monitor.enable()

    def disable(self) -> None:
        """Pause, for example while testing: calls of the network are not seen. Traces stay."""
        self.in_spike_monitor.disable()
        self.out_spike_monitor.disable()

    def close(self) -> None:
        """Observe no more, for good; traces stay."""
        self.in_spike_monitor.close()
        self.out_spike_monitor.close()

    def reset(self) -> None:
        """Forget the traces, and what was observed and not learned from yet."""
        super().reset()
        self._forget()

    def _forget(self) -> None:
        self.in_spike_monitor.clear_recorded_data()
        self.out_spike_monitor.clear_recorded_data()

    def _observations(self, on_grad: bool) -> list[tuple[Tensor, Tensor]]:
        """Input and output of every step since the last call of `step`, at least in float32; they are kept."""
        if on_grad and (is_parametrized(self.synapse, "weight") or not self.synapse.weight.is_leaf):
            raise RuntimeError(
                f"{type(self).__name__}: the weight of this {type(self.synapse).__name__} is computed from other "
                "parameters, as by weight_norm, so that no optimizer would see its gradient. Take the change with "
                "step(..., on_grad=False), or the parametrization off."
            )
        into, out = list(self.in_spike_monitor.records), list(self.out_spike_monitor.records)
        if len(into) != len(out):
            raise RuntimeError(
                f"{type(self).__name__} saw {len(into)} calls of the synapse and {len(out)} of the neuron, which do "
                "not pair. Run both equally often between two calls of step(); reset() forgets what was seen."
            )
        for module in self._observed if into else ():
            if isinstance(module, StepModule) and module.step_mode != self.step_mode:
                raise ValueError(
                    f"{type(self).__name__} has step_mode={self.step_mode!r}, but the {type(module).__name__} that it "
                    f"observes has {module.step_mode!r}. Make the learner with the step mode of the network."
                )
        if self.step_mode == "m":
            into, out = ([x for x_seq in seqs for x in x_seq] for seqs in (into, out))
        self._check_shapes([(x.shape, y.shape) for x, y in zip(into, out, strict=True)])
        wide = torch.promote_types(self.synapse.weight.dtype, torch.float32)
        return [(x.to(wide), y.to(wide)) for x, y in zip(into, out, strict=True)]

    def _check_shapes(self, steps: list[tuple[torch.Size, torch.Size]]) -> None:
        """Refuse steps that do not go on from the traces, or whose spikes do not lie where the synapse leads."""
        owner, (synapse, sn) = type(self).__name__, self._observed
        traces: list[Any] = [self.trace_pre, self.trace_post]
        for shapes in dict.fromkeys(steps):
            for name, trace, shape in zip(("trace_pre", "trace_post"), traces, shapes, strict=True):
                check_state(owner, shape, {name: trace}, cure=_CURE)
            traces = [torch.empty(shape, device="meta") for shape in shapes]
            leads = through(synapse, traces[0], self.synapse.weight.detach().to("meta", traces[0].dtype)).shape
            if leads != shapes[1]:
                raise ShapeError(
                    f"{owner} pairs every output of the synapse with a spike of the neuron: both must have one shape. "
                    f"The synapse ({type(synapse).__name__}) makes {dims(leads, 'N')} of its input, and the neuron "
                    f"({type(sn).__name__}) gave out {dims(shapes[1], 'N')}. Let the neuron follow the synapse, and "
                    "put a pooling or flattening between them behind the neuron. What was seen is kept until reset()."
                )

    def _track(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of spikes up into the traces; these."""
        pre = self._left(self.trace_pre, self.tau_pre) + x
        post = self._left(self.trace_post, self.tau_post) + y
        self.trace_pre, self.trace_post = pre, post
        return pre, post

    def _pairing(self, seen: list[tuple[Tensor, Tensor]], reward: Tensor | float = 1.0) -> Tensor:
        """Potentiation at the spikes of the neuron, depression at those before the synapse, summed over the batch.

        The steps are paired all at once, as more samples: the weights are the same for all.
        """
        return self._paired(self._tracked(seen), reward)

    def _tracked(self, seen: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Spikes before and behind the synapse and their traces, each over the steps."""
        tracks = [self._track(x, y) for x, y in seen]
        return [torch.stack(held) for held in (*zip(*seen, strict=True), *zip(*tracks, strict=True))]

    def _paired(self, tracked: list[Tensor], reward: Tensor | float) -> Tensor:
        """The change of the steps together; `reward` weighs samples, or steps."""
        return self._scaled(tracked, reward, *self._scales(tracked))

    def _scales(self, tracked: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What the present weights make of potentiation and of depression."""
        weight: Tensor = self.synapse.weight.detach().to(tracked[0].dtype)
        return self.f_post(weight), self.f_pre(weight)

    def _scaled(self, tracked: list[Tensor], reward: Tensor | float, up: Tensor, down: Tensor) -> Tensor:
        return change_of(self.synapse, tracked, up, down, reward)

    def _check_call(self, on_grad: bool, **numbers: Tensor | float) -> None:
        """Refuse what is no number, and what would make all weights NaN; a GPU is not waited for."""
        owner = type(self).__name__
        check_switches(owner, on_grad=on_grad)
        for name, given in numbers.items():
            if not isinstance(given, Tensor | Real) or (isinstance(given, Tensor) and given.is_complex()):
                came = given.dtype if isinstance(given, Tensor) else type(given).__name__
                raise TypeError(f"{owner}: {name} must be a real number or a tensor of them, but got {came}.")
            held = given if isinstance(given, Tensor) else torch.tensor(float(given), device="cpu")
            if held.device.type == "cpu" and not bool(held.isfinite().all()):
                raise ValueError(f"{owner}: {name} must be finite, but got {given}.")

    def _deliver(self, change: Tensor | None, on_grad: bool) -> Tensor | None:
        """Leave the change where an optimizer that descends finds it, or hand it over."""
        if change is None:
            return None
        weight = self.synapse.weight
        change = change.to(weight.dtype)
        if not on_grad:
            return change
        weight.grad = -change if weight.grad is None else weight.grad - change
        return None

    def extra_repr(self) -> str:
        taus = ", ".join(f"{name}={getattr(self, name)}" for name in _TAUS if name in vars(self))
        synapse, sn = (type(module).__name__ for module in self._observed)
        return f"step_mode={self.step_mode}, synapse={synapse}, sn={sn}, {taus}"


class STDPLearner(_Learner):
    r"""Spike-timing-dependent plasticity with a trace of the spikes on each side of the synapse.

    $$x_i \leftarrow x_i - \tfrac{x_i}{\tau_{pre}} + S_i \qquad y_j \leftarrow y_j - \tfrac{y_j}{\tau_{post}} + S_j
      \qquad \Delta W_{ji} = f_{post}(W_{ji})\, x_i S_j - f_{pre}(W_{ji})\, y_j S_i$$

    summed over the batch and over the steps since the last call. It observes the input of `synapse` (Linear, Conv1d or
    Conv2d) and the output of `sn`; `step` learns from what was seen and forgets it. Traces carry no graph.

    - `step_mode`: that of the network: `'s'` for calls of one step, `'m'` for calls of a sequence.
    - `tau_pre`, `tau_post`: in steps, at least 1. `f_pre`, `f_post`: functions of the weight, the weight itself if not
      given.

    Morrison, Diesmann and Gerstner, *Phenomenological models of synaptic plasticity based on spike timing* (Biological
    Cybernetics 2008), section 4.1.

    >>> synapse, sn = nn.Linear(1, 1, bias=False), spikescope.neuron.IFNode()
    >>> _ = synapse.weight.data.fill_(1.0)
    >>> learner = STDPLearner("s", synapse, sn, tau_pre=2.0, tau_post=4.0)
    >>> for x in (1.0, 0.0, 1.0):  # spikes 1, 0, 1; x = 1, 0.5, 1.25; y = 1, 0.75, 1.5625
    ...     _ = sn(synapse(torch.tensor([[x]])))
    >>> learner.step(on_grad=False)  # 1 - 1 + 0 - 0 + 1.25 - 1.5625
    tensor([[-0.3125]])
    """

    def __init__(
        self,
        step_mode: str,
        synapse: nn.Module,
        sn: nn.Module,
        tau_pre: float,
        tau_post: float,
        f_pre: WeightFunction = same,
        f_post: WeightFunction = same,
    ) -> None:
        super().__init__(step_mode, synapse, sn, {"tau_pre": tau_pre, "tau_post": tau_post}, f_pre, f_post)

    @_apart
    def step(self, on_grad: bool = True, scale: float = 1.0) -> Tensor | None:
        """Learn from the steps seen since the last call; with nothing seen, nothing happens.

        `on_grad`: subtract `scale` times the change from `synapse.weight.grad`, for an optimizer. Else return it.
        """
        self._check_call(on_grad, scale=scale)
        seen = self._observations(on_grad)
        self._forget()
        return self._deliver(scale * self._pairing(seen) if seen else None, on_grad)


class _RewardLearner(_Learner):
    """A rule that waits for a reward; its traces decay exponentially."""

    _left = staticmethod(exponential)


class MSTDPLearner(_RewardLearner):
    r"""STDP modulated by a reward: $\Delta W = r\, \zeta$, where $\zeta$ is the change of STDP at the same step.

    $$x_i \leftarrow e^{-1/\tau_{pre}} x_i + S_i \qquad y_j \leftarrow e^{-1/\tau_{post}} y_j + S_j \qquad
      \zeta_{ji} = f_{post}(W_{ji})\, x_i S_j - f_{pre}(W_{ji})\, y_j S_i$$

    - `batch_size`: N of the spikes. The other arguments are those of `STDPLearner`.

    Florian, *Reinforcement learning through modulation of spike-timing-dependent synaptic plasticity* (Neural
    Computation 2007), section 3.3.

    >>> synapse, sn = nn.Linear(1, 1, bias=False), spikescope.neuron.IFNode()
    >>> _ = synapse.weight.data.fill_(1.0)
    >>> learner = MSTDPLearner("s", 2, synapse, sn, 2.0, 2.0, f_pre=torch.zeros_like)
    >>> _ = sn(synapse(torch.ones(2, 1)))  # each sample: a trace of 1 at a spike
    >>> learner.step(torch.tensor([0.5, 2.0]), on_grad=False)
    tensor([[2.5000]])
    """

    def __init__(
        self,
        step_mode: str,
        batch_size: int,
        synapse: nn.Module,
        sn: nn.Module,
        tau_pre: float,
        tau_post: float,
        f_pre: WeightFunction = same,
        f_post: WeightFunction = same,
    ) -> None:
        super().__init__(step_mode, synapse, sn, {"tau_pre": tau_pre, "tau_post": tau_post}, f_pre, f_post)
        self.batch_size = check_whole("MSTDPLearner", "batch_size", batch_size)

    @_apart
    def step(self, reward: Tensor | float, on_grad: bool = True, scale: float = 1.0) -> Tensor | None:
        """Learn from the steps seen since the last call, all with `reward`: a number, or one per sample `[N]`."""
        self._check_call(on_grad, reward=reward, scale=scale)
        seen = self._observations(on_grad)
        rewards = self._per_sample(reward, seen)
        self._forget()
        return self._deliver(scale * self._pairing(seen, rewards) if seen else None, on_grad)

    def _per_sample(self, reward: Tensor | float, seen: list[tuple[Tensor, Tensor]]) -> Tensor | float:
        for _, y in seen:
            if y.shape[0] != self.batch_size:
                raise ShapeError(
                    f"MSTDPLearner: batch_size is {self.batch_size}, but the neuron gave out {dims(y.shape, 'N')}."
                )
        if not isinstance(reward, Tensor) or reward.ndim == 0:
            return reward
        if reward.shape != (self.batch_size,):
            raise ShapeError(
                f"MSTDPLearner: reward must be a number or one per sample, [{self.batch_size}], "
                f"but got {dims(reward.shape)}."
            )
        return reward.view(-1, *[1] * (seen[0][1].ndim - 1)).to(seen[0][1]) if seen else 0.0


class MSTDPETLearner(_RewardLearner):
    r"""Reward-modulated STDP with an eligibility trace, for a reward that comes later: $\Delta W = r\, z$.

    $$z \leftarrow e^{-1/\tau_{trace}}\, z + \tfrac{1}{\tau_{trace}}\, \zeta$$

    with the $\zeta$ of `MSTDPLearner`, summed over the batch: there is one reward for all samples. $z$ is `trace_e`.
    Steps between two calls have one reward: they are paired all at once, each by what is left of its trace.

    - `tau_trace`: in steps, at least 1. The other arguments are those of `STDPLearner`.

    Florian (Neural Computation 2007), section 3.2.

    >>> synapse, sn = nn.Linear(1, 1, bias=False), spikescope.neuron.IFNode()
    >>> _ = synapse.weight.data.fill_(1.0)
    >>> learner = MSTDPETLearner("s", synapse, sn, 2.0, 2.0, tau_trace=2.0, f_pre=torch.zeros_like)
    >>> _ = sn(synapse(torch.ones(1, 1)))
    >>> learner.step(0.0, on_grad=False), learner.trace_e  # 1/2 of the change of 1
    (tensor([[0.]]), tensor([[0.5000]]))
    """

    tau_trace: float
    trace_e: Tensor | float

    def __init__(
        self,
        step_mode: str,
        synapse: nn.Module,
        sn: nn.Module,
        tau_pre: float,
        tau_post: float,
        tau_trace: float,
        f_pre: WeightFunction = same,
        f_post: WeightFunction = same,
    ) -> None:
        taus = {"tau_pre": tau_pre, "tau_post": tau_post, "tau_trace": tau_trace}
        super().__init__(step_mode, synapse, sn, taus, f_pre, f_post)
        self.register_memory("trace_e", 0.0)

    @_apart
    def step(self, reward: Tensor | float, on_grad: bool = True, scale: float = 1.0) -> Tensor | None:
        """Learn from the steps seen since the last call, all with the one `reward`."""
        self._check_call(on_grad, reward=reward, scale=scale)
        reward = self._one(reward)
        seen = self._observations(on_grad)
        self._forget()
        if not seen:
            return None
        before, tau, steps = self.trace_e, self.tau_trace, len(seen)
        tracked = self._tracked(seen)
        left = [math.exp(-age / tau) for age in range(steps + 1)]  # of the trace of one step, as it ages
        told = [0.0, *accumulate(left)]  # its sum over as many steps
        change = self._paired(tracked, self._per_step(tracked, [left[steps - 1 - t] for t in range(steps)])) / tau
        self.trace_e = left[steps] * before + change
        if steps == 1:
            return self._deliver(scale * reward * self.trace_e, on_grad)
        change = self._paired(tracked, self._per_step(tracked, [told[steps - t] for t in range(steps)])) / tau
        return self._deliver(scale * reward * ((told[steps + 1] - 1.0) * before + change), on_grad)

    def _one(self, reward: Tensor | float) -> float:
        if isinstance(reward, Tensor) and reward.numel() != 1:
            raise ShapeError(
                f"MSTDPETLearner takes one reward for the whole batch, but got {dims(reward.shape)}. "
                "Take reward.mean(), or MSTDPLearner, which knows a reward per sample."
            )
        return float(reward)

    @staticmethod
    def _per_step(tracked: list[Tensor], weights: list[float]) -> Tensor:
        """A weight for each step, as it spreads over spikes behind the synapse."""
        spikes = tracked[1]
        return torch.tensor(weights, dtype=spikes.dtype, device=spikes.device).view(-1, *[1] * (spikes.ndim - 1))


_explain_absent(__name__)
