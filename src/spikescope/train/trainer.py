"""The training of a classifier of spikes by a recipe, in one process or many, watched, and resumed bit for bit.

Read it from `Trainer.run` downwards. What a training needs to go on is in `Progress` and in the weights; everything
random follows from counters (`seeding`), and the learning rate from the update (`updates`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..errors import ShapeError, dims
from ..functional import convert_sync_batchnorm, lean, multi_step_forward, reset_net
from ..monitor import FlightRecorder, flight_recorder
from ..report.views import Epoch, LayerActivity
from ..view.live import Live, live
from .checkpoint import Checkpoint, checkpoint_path, drop_old, generator_states, write_checkpoint
from .data import direct_encoding
from .observe import observe
from .ranks import Ranks
from .recipe import Recipe
from .seeding import Order, SeededSamples, keeping_generators, seed_all
from .sources import Split
from .stopping import Stop
from .updates import learning_rate, loss_of, make_optimizer, mix, running_average

__all__ = ["Progress", "Trainer"]

_LISTENING = 8  # updates after which ranks ask each other whether one was told to stop
_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Progress:
    """How far a training has come.

    - `epoch`: finished ones. `batch`: batches done in the one after them. `update`: updates in all.
    - `sums`: loss, right answers and samples of the batches done in this epoch.
    - `best`, `best_epoch`: the highest test accuracy, and when it was.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class _Sequence(nn.Module):
    """A network as a function of a sequence to the scores of each step, in both step modes: what DDP wraps."""

    def __init__(self, net: nn.Module, recipe: Recipe, data: Split) -> None:
        super().__init__()
        self.net, self.single, self.classes = net, recipe.step_mode == "s", data.classes
        self.frames = not data.sequences

    def forward(self, x_seq: Tensor) -> Tensor:
        try:
            scores = multi_step_forward(x_seq, self.net) if self.single else self.net(x_seq)
        except ShapeError as error:
            if not (shown := self._shown(x_seq)):
                raise
            raise ShapeError(f"{error}{shown}") from error
        if not isinstance(scores, Tensor) or scores.dim() not in (2, 3) or scores.shape[-2] != x_seq.shape[1]:
            came = dims(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ShapeError(
                f"The network must give scores [T, N, K] for {dims(x_seq.shape)}, but gave {came}.{self._shown(x_seq)}"
            )
        if scores.shape[-1] < self.classes:
            raise ShapeError(
                f"The network gives scores of {scores.shape[-1]} classes, but the data has {self.classes}."
            )
        return scores if scores.dim() == 3 else scores.unsqueeze(0)

    def _shown(self, x_seq: Tensor) -> str:
        """What may be wrong with the data instead: a sample of several axes that was taken for one frame."""
        if not self.frames or x_seq.dim() < 4:
            return ""
        return (
            f"\nA sample {dims(x_seq.shape[2:])} was taken for one frame, and shown at each of {len(x_seq)} steps. If "
            f"it is a sequence of {x_seq.shape[2]} steps already, say Split(train, test, classes, sequences=True) and "
            f"Recipe(T={x_seq.shape[2]})."
        )


class Trainer:
    """Trains `net` on `data` by a `recipe`; `run()` does it all, and leaves `net` trained and reset.

    - `net`: from sequences `[T, N, *]` to scores `[T, N, K]` in step mode `'m'`, or a step of each in `'s'`.
    - `folder`: where checkpoints go (`checkpoint-*.safetensors`, the last `recipe.keep` of them); None for nowhere.
    - `ranks`: the processes that train together; `joined_ranks(device)` gives them.
    - `checkpoint`: from which the training goes on, as though it had never stopped.

    >>> net = spikescope.train.digits_network(channels=(2, 2), hidden=8)
    >>> split = spikescope.train.load_data("digits", None, 2, {})
    >>> recipe = Recipe(T=2, epochs=1, batch_size=256)
    >>> [epoch.epoch for epoch in Trainer(net, split, recipe).run()]
    [1]
    """

    def __init__(
        self,
        net: nn.Module,
        data: Split,
        recipe: Recipe,
        *,
        folder: Path | None = None,
        ranks: Ranks | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.recipe, self.data, self.folder = recipe, data, folder
        self.ranks = ranks or Ranks(0, 1, torch.device("cpu"))
        if len(data.train) < self.ranks.count:  # who has none would not take part in a step that the others wait in
            raise ValueError(
                f"The train part has {len(data.train)} samples for {self.ranks.count} processes, of which each needs "
                "one at least. Start fewer processes."
            )
        self.progress, self.stopped = Progress(), False
        self._listeners: list[FlightRecorder | Live] = []
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.ranks.device)
        self.net = (convert_sync_batchnorm(net) if recipe.sync_bn else net).to(self.ranks.device)
        self.optimizer = make_optimizer(self.net, recipe)
        self.scaler = torch.amp.GradScaler(self.ranks.device.type, enabled=recipe.amp == "fp16")
        average = running_average(recipe.model_ema_decay)
        self.average = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True) if recipe.model_ema else None
        if checkpoint is not None:
            self._take_up(checkpoint)
        lean(self.net, recipe.lean)
        wrapped: nn.Module = _Sequence(self.net, recipe, data)
        if recipe.compile:
            wrapped.compile()
        if self.ranks.count > 1:
            wrapped = DistributedDataParallel(wrapped)
        self._wrapped = wrapped

    @property
    def tested(self) -> nn.Module:
        """The network that is tested: the running average where there is one."""
        return self.net if self.average is None else self.average.module

    @property
    def batches(self) -> int:
        """Batches of an epoch in each process."""
        return len(Order(len(self.data.train), self.recipe.batch_size, shuffled=True, ranks=self.ranks.count))

    def run(
        self, *, on_batch: Callable[[], None] | None = None, on_epoch: Callable[[Epoch], None] | None = None
    ) -> list[Epoch]:
        """Train to the end of the recipe, or until SIGTERM, Ctrl-C or want of progress ends it; the epochs.

        - `on_batch`, `on_epoch`: called after each, on every rank; `on_epoch` before its checkpoint is written, so what
          it writes may be written again after a resume. `stopped` tells whether a signal has ended the training.

        FloatingPointError if the loss is not a number any more: the last checkpoint is then of before.
        """
        history = [Epoch.from_row(row) for row in self.progress.history]
        with keeping_generators(), Stop() as stop, self._watched():
            while self.progress.epoch < self.recipe.epochs and not self._waited_enough():
                start = perf_counter()
                self._train(stop, on_batch)
                if self.stopped:
                    self._save()
                    break
                history.append(self._finish_epoch(perf_counter() - start))
                if on_epoch is not None:
                    on_epoch(history[-1])
                self._save()
        reset_net(self.net)
        return history

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have the network looked at as the recipe says."""
        recipe, ranks = self.recipe, self.ranks
        with ExitStack() as around:
            if recipe.flight and self.folder is not None:
                scaler = self.scaler if self.scaler.is_enabled() else None
                recorder = flight_recorder(self.net, to=self.folder / "flight", scaler=scaler)
                self._listeners.append(around.enter_context(recorder))
            if recipe.live and ranks.first:
                title = " on ".join(filter(None, (recipe.model or type(self.net).__name__, recipe.data)))
                self._listeners.append(around.enter_context(live(self.net, title=title)))
            around.callback(self._listeners.clear)
            yield

    def test(self) -> tuple[float, float, tuple[LayerActivity, ...]]:
        """Loss, accuracy (a share of 1) and the activity of each layer over the whole test part, on all ranks."""
        net = self.tested
        self.ranks.agree(net.buffers())  # statistics of norms may differ, as each rank has seen its own batches
        sequence, training = _Sequence(net, self.recipe, self.data), net.training
        sums = torch.zeros(3, device=self.ranks.device)
        net.eval()
        try:
            with keeping_generators(), torch.no_grad(), observe(net) as activity:
                for batch in self._loader(self.data.test, shuffled=False):
                    reset_net(net)
                    x, y = self._placed(*batch)
                    with self._precision():
                        scores = sequence(x)
                    sums += _sums(scores, y, loss_of(scores.float(), y, self.recipe))
                layers = activity.layers(over_ranks=self.ranks.count > 1)
        finally:
            net.train(training)
            reset_net(net)
        loss, right, count = self.ranks.total(sums).tolist()
        return loss / count, right / count, layers

    def scores(self, net: nn.Module, x_seq: Tensor) -> Tensor:
        """The scores of each step `[T, N, K]` that a network like this one gives for a sequence, in full precision."""
        return _Sequence(net, self.recipe, self.data)(x_seq)

    def _train(self, stop: Stop, on_batch: Callable[[], None] | None) -> None:
        """The rest of an epoch, from the batch where it stands."""
        progress, every, count = self.progress, self.recipe.accumulate, self.batches
        sums = self._sums = torch.tensor(progress.sums, dtype=torch.float64, device=self.ranks.device)
        self.net.train()
        for x, y in self._loader(self.data.train, shuffled=True, skip=progress.batch):
            last = (progress.batch + 1) % every == 0 or progress.batch + 1 == count
            within = min(every, count - progress.batch // every * every)  # the last update may have fewer
            sums += self._accumulate(x, y, within, last)
            progress.batch += 1
            if on_batch is not None:
                on_batch()
            if not last:
                continue
            self._update()
            if self.ranks.any(stop.wanted, now=progress.update % _LISTENING == 0):
                self.stopped = True
                return
            if self.recipe.save_every and progress.update % self.recipe.save_every == 0 and progress.batch < count:
                self._save()
        progress.sums = self.ranks.total(sums).tolist()
        self._sums = torch.zeros_like(sums)

    def _accumulate(self, x: Tensor, y: Tensor, within: int, last: bool) -> Tensor:
        """Add the gradients of a batch to those of the update; its sums."""
        progress = self.progress
        seed_all(self.recipe.seed, progress.epoch, progress.batch, self.ranks.rank)
        x, target = mix(x, y, self.data.classes, self.recipe)
        reset_net(self.net)
        x, target = self._placed(x, target)
        waiting = self.ranks.count > 1 and not last
        with ExitStack() as around:
            if waiting and isinstance(self._wrapped, DistributedDataParallel):
                around.enter_context(self._wrapped.no_sync())
            with self._precision():
                scores = self._wrapped(x)
            loss = loss_of(scores.float(), target, self.recipe)
            for listener in self._listeners:
                listener.loss(loss)
            self.scaler.scale(loss / within).backward()
        return _sums(scores, y.to(scores.device), loss)

    def _update(self) -> None:
        recipe, progress = self.recipe, self.progress
        rate = learning_rate(recipe, progress.epoch + (progress.batch - 1) // recipe.accumulate / self._updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if recipe.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        progress.update += 1
        before = progress.update < recipe.model_ema_steps  # until its first step it is the network
        if self.average is not None and (before or progress.update % recipe.model_ema_steps == 0):
            reset_net(self.net)
            self.average.update_parameters(self.net)
            if before:
                self.average.n_averaged.zero_()

    @property
    def _updates(self) -> int:
        return -(-self.batches // self.recipe.accumulate)

    def _finish_epoch(self, seconds: float) -> Epoch:
        """Measure, and begin the next."""
        progress = self.progress
        loss, right, count = progress.sums
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss of epoch {progress.epoch + 1} is {loss / max(count, 1)}: it is not a number any more. A "
                "lower --lr, --clip-grad-norm or a longer warm-up helps most often; spikescope.monitor.health(net) "
                "around a step names the layer where it begins. The last checkpoint was written before that."
            )
        lost = [name for name, held in self.net.named_parameters() if not held.isfinite().all()]
        if lost:
            raise FloatingPointError(
                f"After epoch {progress.epoch + 1} there are values in {lost[0]} that are not numbers any more; a loss "
                "behind a neuron does not tell. Look for NaN in the data, or lower --lr; "
                "spikescope.monitor.health(net) around a step names the layer where it begins. The last checkpoint of "
                "an epoch was written before that."
            )
        test_loss, test_accuracy, layers = self.test()
        progress.epoch, progress.batch, progress.sums = progress.epoch + 1, 0, [0.0, 0.0, 0.0]
        epoch = Epoch(progress.epoch, loss / count, right / count, test_loss, test_accuracy, seconds, layers)
        progress.history.append(epoch.row())
        if test_accuracy > progress.best:
            progress.best, progress.best_epoch = test_accuracy, progress.epoch
        return epoch

    def _waited_enough(self) -> bool:
        return 0 < self.recipe.patience <= self.progress.epoch - self.progress.best_epoch

    def _loader(self, samples: Any, *, shuffled: bool, skip: int = 0) -> Iterable[tuple[Tensor, Tensor]]:
        recipe, ranks = self.recipe, self.ranks
        order = Order(
            len(samples),
            recipe.batch_size,
            shuffled=shuffled,
            seed=recipe.seed,
            epoch=self.progress.epoch,
            rank=ranks.rank,
            ranks=ranks.count,
            skip=skip,
        )
        pinned = ranks.device.type == "cuda"
        seeded = SeededSamples(samples, recipe.seed)
        loader = DataLoader(seeded, batch_sampler=order, num_workers=recipe.workers, pin_memory=pinned)
        return (self._checked(*batch) for batch in loader)

    def _checked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A batch whose classes are some of the data; they are still on the CPU here, where looking costs nothing."""
        whole = isinstance(y, Tensor) and y.dim() == 1 and not y.is_floating_point() and not y.is_complex()
        if not whole or int(y.min()) < 0 or int(y.max()) >= self.data.classes:
            came = f"{y.tolist()[:8]} of {y.dtype}" if isinstance(y, Tensor) else repr(y)
            raise ValueError(
                f"A sample must come with its class, a whole number from 0 to {self.data.classes - 1}, but a batch has "
                f"{came}. Number the classes from 0, and give their count in Split(train, test, classes)."
            )
        return x, y.long()

    def _placed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A batch on the device, with time first."""
        device = self.ranks.device
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        if not self.data.sequences:
            return direct_encoding(x, self.recipe.T), y
        if x.shape[1:2] != (self.recipe.T,):
            raise ShapeError(
                f"The data are sequences [N, T, *] (sequences=True), and the recipe has T={self.recipe.T}, but a batch "
                f"has the shape {dims(x.shape)}. Say T={x.shape[1] if x.dim() > 1 else 1}, or cut the "
                "sequences."
            )
        return x.transpose(0, 1).contiguous(), y

    def _precision(self) -> Any:
        precision = _PRECISIONS.get(self.recipe.amp)
        return nullcontext() if precision is None else torch.autocast(self.ranks.device.type, precision)

    def _save(self) -> None:
        """Write a checkpoint on the first rank, with the sums and the generators of all."""
        progress = replace(self.progress, sums=self.ranks.total(self._sums.clone()).tolist())
        generators = self.ranks.gather(generator_states(self.net))
        if self.folder is None or not self.ranks.first:
            return
        modules = {"net": self.net} | ({} if self.average is None else {"average": self.average})
        head = {"progress": asdict(progress), "scaler": self.scaler.state_dict(), "recipe": self.recipe.as_dict()}
        write_checkpoint(checkpoint_path(self.folder, self.progress.update), modules, self.optimizer, generators, head)
        drop_old(self.folder, self.progress.update, self.recipe.keep)

    def _take_up(self, checkpoint: Checkpoint) -> None:
        checkpoint.load_module("net", self.net)
        if self.average is not None:
            checkpoint.load_module("average", self.average)
        checkpoint.load_optimizer(self.optimizer)
        checkpoint.load_generators(self.net, self.ranks.rank)
        self.scaler.load_state_dict(checkpoint.head["scaler"])
        held = Progress(**checkpoint.head["progress"])
        self.progress = held if self.ranks.first else replace(held, sums=[0.0, 0.0, 0.0])  # they are of all ranks


def _sums(scores: Tensor, y: Tensor, loss: Tensor) -> Tensor:
    """Loss times samples, right answers, samples."""
    right = scores.detach().float().mean(0).argmax(1).eq(y).sum()
    count = torch.tensor(float(len(y)), device=scores.device)
    return torch.stack([loss.detach().float() * len(y), right.float(), count])
