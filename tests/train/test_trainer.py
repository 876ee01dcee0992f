"""The trainer: what an update is, and that a training taken up anywhere ends as though it had never stopped."""

from __future__ import annotations

import random
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ranks import in_two_ranks
from spikescope import encoding, functional, layer, neuron
from spikescope.errors import ShapeError
from spikescope.train import Recipe, Split, Trainer, newest_checkpoint
from spikescope.train.ranks import Ranks
from spikescope.train.updates import learning_rate, loss_of, make_optimizer, mix

BASE = {"model": "m:f", "data": "d:f", "T": 3, "epochs": 3, "batch_size": 8, "lr": 1e-2}


class Shaken:
    """Samples that every generator changes a little, as augmentations do."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        drawn = torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return self.x[index] + 0.01 * drawn, self.y[index]


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(44) % 4
    x = torch.rand(44, 6, generator=generator)
    x[torch.arange(44), y] += 1
    return Split(Shaken(x[:36].float(), y[:36]), TensorDataset(x[36:].float(), y[36:]), 4)


def network(noise=False):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        parts = [layer.Linear(6, 12), layer.BatchNorm1d(12), neuron.LIFNode(), layer.Dropout(0.3), layer.Linear(12, 4)]
        net = nn.Sequential(
            *([encoding.PoissonEncoder(generator=torch.Generator().manual_seed(3))] if noise else []), *parts
        )
    functional.set_step_mode(net, "m")
    return net


def weights(net):
    return {name: held.clone() for name, held in net.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, held in a.items():
        assert torch.equal(held, b[name]), name


VARIANTS = {
    "plain": {},
    "sgd": {"opt": "sgd", "weight_decay": 0.01, "norm_weight_decay": 0.0},
    "accumulate": {"accumulate": 3, "clip_grad_norm": 1.0},
    "averaged": {"model_ema": True, "model_ema_steps": 2},
    "bf16": {"amp": "bf16"},
    "fp16": {"amp": "fp16"},
    "mixed": {"mixup_alpha": 0.5, "label_smoothing": 0.1},
    "single steps": {"step_mode": "s", "loss": "mse"},
    "tet": {"loss": "tet", "lr_warmup_epochs": 1, "lr_scheduler": "exp"},
    "workers": {"workers": 1},
    "lean": {"lean": True},
}


class Enough(Exception):
    pass


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_training_taken_up_anywhere_ends_bit_for_bit_as_without_a_stop(tmp_path, split, variant, after):
    if variant == "workers" and after != 2:
        pytest.skip("starting workers is slow; once is enough")
    recipe = Recipe(**{**BASE, "epochs": 2, "save_every": 1, "keep": 99, **VARIANTS[variant]})

    def made():
        net = network()
        functional.set_step_mode(net, recipe.step_mode)
        return net

    whole = Trainer(made(), split, recipe)
    history = whole.run()
    calls = 0

    def die():
        nonlocal calls
        calls += 1
        if calls == min(after * recipe.accumulate, 7):  # of 8
            raise Enough

    with pytest.raises(Enough):
        Trainer(made(), split, recipe, folder=tmp_path).run(on_batch=die)
    found = newest_checkpoint(tmp_path)
    again = Trainer(made(), split, recipe, checkpoint=found[1] if found else None)
    if after > 1:
        assert again.progress.update > 0
    finished = again.run()
    assert_same(weights(whole.tested), weights(again.tested))
    for a, b in zip(history, finished, strict=True):
        assert (a.train_loss, a.train_accuracy, a.test_loss) == (b.train_loss, b.train_accuracy, b.test_loss)


@pytest.mark.parametrize("every", [1, 3, 99])
def test_the_running_average_follows_a_short_training_too(split, every):
    recipe = Recipe(**{**BASE, "epochs": 2, "model_ema": True, "model_ema_steps": every, "model_ema_decay": 0.35})
    trainer, seen = Trainer(network(), split, recipe), []
    trainer.optimizer.register_step_post_hook(lambda *given: seen.append(trainer.net[4].weight.detach().clone()))
    trainer.run()
    steps = seen[every - 1 :: every] or seen[-1:]
    wanted = steps[0]
    for k, weight in enumerate(steps[1:], 1):
        share = min(0.35, (1 + k) / (10 + k))
        wanted = share * wanted + (1 - share) * weight
    assert len(seen) == 8
    torch.testing.assert_close(trainer.tested[4].weight.detach(), wanted)


def test_generators_of_modules_go_on_where_they_were(tmp_path):
    x = torch.rand(24, 6)
    split = Split(TensorDataset(x, torch.arange(24) % 4), TensorDataset(x, torch.arange(24) % 4), 4)
    recipe = Recipe(**{**BASE, "epochs": 2})
    whole = Trainer(network(noise=True), split, recipe)
    whole.run()
    first = Trainer(network(noise=True), split, recipe, folder=tmp_path)

    def once(epoch):
        if epoch.epoch == 2:
            raise Enough

    with pytest.raises(Enough):
        first.run(on_epoch=once)
    again = Trainer(network(noise=True), split, recipe, checkpoint=newest_checkpoint(tmp_path)[1])
    again.run()
    assert_same(weights(whole.net), weights(again.net))


def test_a_signal_ends_it_after_the_update_with_a_checkpoint(tmp_path, split):
    recipe = Recipe(**BASE)
    trainer = Trainer(network(), split, recipe, folder=tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    history = trainer.run(on_batch=lambda: signal.raise_signal(signal.SIGTERM))
    assert trainer.stopped
    assert history == []
    assert signal.getsignal(signal.SIGTERM) is handler
    path, held = newest_checkpoint(tmp_path)
    assert path.name == "checkpoint-000000001.safetensors"
    whole = Trainer(network(), split, recipe)
    whole.run()
    again = Trainer(network(), split, recipe, checkpoint=held)
    again.run()
    assert_same(weights(whole.net), weights(again.net))


def test_the_generators_of_the_user_are_left_alone(split):
    torch.manual_seed(7)
    random.seed(7)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    Trainer(network(), split, Recipe(**{**BASE, "epochs": 1})).run()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_a_damaged_checkpoint_is_passed_over_in_words(tmp_path, split):
    Trainer(network(), split, Recipe(**{**BASE, "keep": 3}), folder=tmp_path).run()
    newest = max(tmp_path.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:200])
    with pytest.warns(
        RuntimeWarning, match=r"is not a checkpoint of a training, or is damaged.*The one before it is taken"
    ):
        path, held = newest_checkpoint(tmp_path)
    assert path < newest
    assert held.head["progress"]["epoch"] == 2


def test_only_the_last_checkpoints_are_kept(tmp_path, split):
    Trainer(network(), split, Recipe(**{**BASE, "keep": 2}), folder=tmp_path).run()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "checkpoint-000000008.safetensors",
        "checkpoint-000000012.safetensors",
    ]


def test_patience_ends_it(split):
    stuck = network()
    for held in stuck.parameters():
        held.requires_grad_(False)
    stuck[-1].bias.requires_grad_(True)
    recipe = Recipe(**{**BASE, "epochs": 9, "lr": 0.0, "patience": 2})
    history = Trainer(stuck, split, recipe).run()
    assert len(history) == 3


def test_a_loss_that_is_no_number_ends_it_and_keeps_the_checkpoint_of_before(tmp_path, split):
    net = network()
    trainer = Trainer(net, split, Recipe(**BASE), folder=tmp_path)

    def spoil(epoch):
        with torch.no_grad():
            net[-1].weight.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="The loss of epoch 2 is nan"):
        trainer.run(on_epoch=spoil)
    assert newest_checkpoint(tmp_path)[1].head["progress"]["epoch"] == 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accumulated_batches_make_the_gradient_of_one(accumulate):
    x, y = torch.rand(8, 6), torch.arange(8) % 4
    split = Split(TensorDataset(x, y), TensorDataset(x, y), 4)
    nets = []
    for size, parts in ((8, 1), (8 // accumulate, accumulate)):
        torch.manual_seed(0)
        net = nn.Sequential(layer.Linear(6, 4), neuron.LIFNode(), layer.Linear(4, 4))
        functional.set_step_mode(net, "m")
        recipe = Recipe(**{**BASE, "epochs": 1, "opt": "sgd", "batch_size": size, "accumulate": parts})
        Trainer(net, split, recipe).run()
        nets.append(weights(net))
    for name, held in nets[0].items():
        torch.testing.assert_close(held, nets[1][name], rtol=1e-5, atol=1e-7)


def test_the_network_must_give_scores(split):
    net = nn.Sequential(layer.Linear(6, 4), layer.Flatten(0))
    functional.set_step_mode(net, "m")
    with pytest.raises(ShapeError, match=r"must give scores \[T, N, K\]"):
        Trainer(net, split, Recipe(**BASE)).run()


def sequences(steps, **options):
    x, y = torch.rand(8, steps, 6), torch.arange(8) % 4
    return Split(TensorDataset(x, y), TensorDataset(x, y), 4, **options)


def test_sequences_that_were_taken_for_frames_are_told():
    net = nn.Sequential(layer.Linear(6, 4), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    words = r"(?s)A sample \[5, 6\] was taken for one frame.*sequences=True.*Recipe\(T=5\)"
    with pytest.raises(ShapeError, match=words):
        Trainer(net, sequences(5), Recipe(**BASE)).run()


def test_sequences_that_the_network_refuses_as_frames_are_told():
    x, y = torch.rand(8, 5, 2, 6, 6), torch.arange(8) % 4
    net = nn.Sequential(layer.Conv2d(2, 2, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(32, 4))
    functional.set_step_mode(net, "m")
    words = r"(?s)Conv2d.*A sample \[5, 2, 6, 6\] was taken for one frame.*sequences=True.*Recipe\(T=5\)"
    data = Split(TensorDataset(x, y), TensorDataset(x, y), 4)
    with pytest.raises(ShapeError, match=words):
        Trainer(net, data, Recipe(**BASE)).run()


def test_the_steps_of_a_recipe_are_those_of_the_sequences():
    with pytest.raises(ShapeError, match=r"the recipe has T=3, but a batch has the shape \[8, 5, 6\]. Say T=5, or"):
        Trainer(network(), sequences(5, sequences=True), Recipe(**BASE)).run()
    assert Trainer(network(), sequences(3, sequences=True), Recipe(**{**BASE, "epochs": 1})).run()


def test_scores_of_too_few_classes_are_told(split):
    few = Split(split.train, split.test, 5)
    with pytest.raises(ShapeError, match="scores of 4 classes, but the data has 5"):
        Trainer(network(), few, Recipe(**BASE)).run()


def test_norms_have_a_weight_decay_of_their_own():
    recipe = Recipe(**{**BASE, "weight_decay": 0.5, "norm_weight_decay": 0.0})
    groups = make_optimizer(network(), recipe).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.5, 4), (0.0, 2)]


def test_a_network_that_learns_nothing_is_refused():
    with pytest.raises(ValueError, match="no parameters that learn"):
        make_optimizer(neuron.LIFNode(), Recipe(**BASE))


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_keeps_the_sum_of_shares_and_mixes_what_it_says(way):
    torch.manual_seed(3)
    x = torch.zeros(4, 2, 1, 8, 8) + torch.arange(4.0)[:, None, None, None, None]
    mixed, shares = mix(x, torch.arange(4), 4, Recipe(**{**BASE, f"{way}_alpha": 1.0}))
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    expected = (shares * torch.arange(4.0)).sum(1)  # the mean pixel is that of the shares
    torch.testing.assert_close(mixed.mean((1, 2, 3, 4)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["ce", "mse", "tet"])
def test_shares_that_are_one_class_give_the_loss_of_that_class(loss):
    scores, y = torch.rand(3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    recipe = Recipe(**{**BASE, "loss": loss, "label_smoothing": 0.1})
    torch.testing.assert_close(
        loss_of(scores, y, recipe), loss_of(scores, torch.nn.functional.one_hot(y, 4).float(), recipe)
    )


def test_steps_of_the_learning_rate():
    recipe = Recipe(**{**BASE, "lr": 1.0, "lr_scheduler": "step", "lr_step_size": 2, "lr_gamma": 0.5, "epochs": 5})
    assert [learning_rate(recipe, epoch) for epoch in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def _trained(rank):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(22, 6, generator=generator), torch.arange(22) % 4
    split = Split(TensorDataset(x, y), TensorDataset(x[:7], y[:7]), 4)
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(6, 8), neuron.LIFNode(), layer.Linear(8, 4))
    functional.set_step_mode(net, "m")
    from spikescope.train import joined_ranks

    with joined_ranks("cpu") as ranks:
        recipe = Recipe(**{**BASE, "opt": "sgd", "batch_size": 8 // ranks.count, "accumulate": 1})
        history = Trainer(net, split, recipe, ranks=ranks).run()
    return {name: held.tolist() for name, held in weights(net).items()}, [
        (epoch.train_loss, epoch.test_accuracy, epoch.layers) for epoch in history
    ]


def test_a_lean_training_is_the_same(split):
    nets = [Trainer(network(), split, Recipe(**{**BASE, "lean": held})) for held in (False, True)]
    for trainer in nets:
        trainer.run()
    assert_same(weights(nets[0].net), weights(nets[1].net))


def test_two_processes_train_as_one(tmp_path):
    alone, history = _trained(0)
    for both, seen in in_two_ranks(_trained, tmp_path / "meeting"):
        for name, held in alone.items():
            torch.testing.assert_close(torch.tensor(both[name]), torch.tensor(held), rtol=1e-5, atol=1e-6)
        assert [row[1] for row in seen] == [row[1] for row in history]
        torch.testing.assert_close(
            torch.tensor([row[0] for row in seen]), torch.tensor([row[0] for row in history]), rtol=1e-5, atol=1e-6
        )
        assert [row[2] for row in seen] == [row[2] for row in history]


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda y: y + 1, r"\[.*4.*\] of torch.int64"),
        (lambda y: y - 1, r"-1"),
        (lambda y: y.double(), "torch.float64"),
        (lambda y: nn.functional.one_hot(y, 4), r"\[\["),
    ],
    ids=["too large", "negative", "no whole number", "shares"],
)
def test_classes_that_the_data_does_not_have_are_told(split, change, came):
    x, y = split.test.tensors
    wrong = TensorDataset(x.repeat(5, 1), change(y.repeat(5)))
    with pytest.raises(ValueError, match=f"from 0 to 3, but a batch has .*{came}"):
        Trainer(network(), Split(wrong, split.test, 4), Recipe(**BASE)).run()


def test_classes_may_be_of_any_whole_kind(split):
    x, y = split.test.tensors
    losses = []
    for kind in (torch.int64, torch.int32, torch.uint8):
        held = TensorDataset(x, y.to(kind))
        losses.append(Trainer(network(), Split(held, held, 4), Recipe(**{**BASE, "epochs": 1})).run()[0].test_loss)
    assert losses[0] == losses[1] == losses[2]


def test_weights_that_are_lost_are_told_where_the_loss_is_a_number_still(split):
    """A neuron gives no spike for NaN, so that the loss behind it stays finite."""
    x, y = split.test.tensors
    net = nn.Sequential(network(), nn.Linear(4, 4))
    held = TensorDataset(x * float("nan"), y)
    with pytest.raises(FloatingPointError, match=r"After epoch 1 there are values in .*not numbers any more"):
        Trainer(net, Split(held, held, 4), Recipe(**BASE)).run()


@pytest.mark.parametrize("part", ["train", "test"])
def test_data_without_samples_is_refused(split, part):
    with pytest.raises(ValueError, match=f"the {part} part has no samples"):
        Split(**{"train": split.train, "test": split.test, "classes": 4, part: []})


def test_a_process_without_a_sample_is_refused_in_words(split):
    few = Split(TensorDataset(*(held[:1] for held in split.test.tensors)), split.test, 4)
    with pytest.raises(ValueError, match="has 1 samples for 2 processes, of which each needs one at least"):
        Trainer(network(), few, Recipe(**BASE), ranks=Ranks(0, 2, torch.device("cpu")))
