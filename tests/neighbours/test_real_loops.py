"""The callbacks in the real loops of their libraries. `make neighbours` has these packages; the suite need not."""

from __future__ import annotations

import warnings

import pytest
import torch
from loops import T, data, names, network
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spikescope.neighbours import Classifier

WORDS = "needs the package {}: make neighbours runs it"


def loader(size: int = 20) -> DataLoader:
    """Batches of 20, and a last one of 16."""
    return DataLoader(TensorDataset(*data()), batch_size=size)


def module_of(lightning, net):
    """A LightningModule that trains `net` on sequences, without a word of its state."""

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.right, self.seen = net, 0, 0

        def scores(self, x):
            return self.net(x.unsqueeze(0).expand(T, *x.shape)).mean(0)

        def training_step(self, batch, index):
            x, y = batch
            return nn.functional.cross_entropy(self.scores(x), y)

        def validation_step(self, batch, index):
            x, y = batch
            self.right += int((self.scores(x).argmax(1) == y).sum())
            self.seen += len(y)

        test_step = validation_step

        def predict_step(self, batch, index):
            return self.scores(batch[0])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.05)

    return Module()


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason=WORDS.format("lightning"))
    from spikescope.neighbours.lightning import SpikingCallback

    net, callback = network(), SpikingCallback("net")
    module = module_of(lightning, net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=6, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, loader(), loader())
        logged = dict(trainer.callback_metrics)
        module.right = module.seen = 0
        trainer.test(module, loader(), verbose=False)
        logged |= trainer.callback_metrics
        parts = trainer.predict(module, loader())
    assert set(logged) >= names("train") | names("val") | names("test")
    assert all(0 < logged[f"{stage}_rate/1"] < 1 for stage in ("train", "val", "test"))
    assert module.right / module.seen > 0.9
    assert callback.findings
    torch.testing.assert_close(torch.cat(parts), Classifier(net, T)(data()[0]))  # each batch from rest
    assert isinstance(net[1].v, torch.Tensor)  # of the call that has just been


def test_accelerate():
    accelerate = pytest.importorskip("accelerate", reason=WORDS.format("accelerate"))
    from spikescope.neighbours.accelerate import AcceleratedCompanion

    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    prepared, optimizer, batches = accelerator.prepare(net, optimizer, loader())
    logged = []
    accelerator.log = lambda values, step: logged.append((step, values))
    with AcceleratedCompanion(accelerator, prepared) as companion:
        for epoch in range(8):
            for x, y in companion.batches(batches):
                with accelerator.accumulate(prepared):
                    loss = nn.functional.cross_entropy(prepared(x.unsqueeze(0).expand(T, *x.shape)).mean(0), y)
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
            held = companion.log(epoch)
    assert [step for step, _ in logged] == list(range(8))
    assert set(held) == names("train")
    assert logged[-1][1] == held
    x, y = data()
    assert (Classifier(net, T)(x).argmax(1) == y).float().mean() > 0.9


def test_skorch():
    skorch = pytest.importorskip("skorch", reason=WORDS.format("skorch"))
    from spikescope.neighbours.skorch import SpikingCallback

    callback = SpikingCallback()
    model = skorch.NeuralNetClassifier(
        Classifier, module__net=network(), module__T=T, criterion=nn.CrossEntropyLoss, max_epochs=8, lr=0.05,
        optimizer=torch.optim.Adam, batch_size=20, callbacks=[("spikes", callback)], verbose=0,
    )  # fmt: skip
    x, y = (held.numpy() for held in data())
    model.fit(x, y)
    assert len(model.history) == 8
    for row in model.history:
        assert set(row) >= names("train", "net.1") | names("valid", "net.1")
    assert model.score(x, y) > 0.9  # in batches of 20, and one of 16
    assert dict(model.callbacks_)["spikes"].findings_
