"""A task that keeps every promise, small enough to be trained in a blink. The bad ones break one promise each."""

import contextlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nmbench.task import DataError, DataInfo, Metric, Spec, Task


class Good(Task):
    name = "good"
    metrics = (Metric("accuracy", "%", margin=2.0), Metric("loss", "nats", higher_is_better=False))
    models = ("cnn",)
    scales: ClassVar[dict[str, dict[str, Any]]] = {"smoke": {"steps": 30, "batch": 16, "lr": 0.1, "eval_batch": 50}}

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        from nmbench.task import made_once

        manifest = made_once(root / "good", {"version": 1}, self.make)
        return DataInfo(root / "good", manifest["counts"], manifest["fingerprint"])

    @staticmethod
    def make(folder: Path) -> dict[str, Any]:
        draw = np.random.default_rng(0)
        centres = draw.normal(size=(4, 8, 3, 3))
        for split, count in (("train", 400), ("val", 100)):
            labels = draw.integers(0, 4, count)
            np.savez(folder / f"{split}.npz", x=centres[labels] + draw.normal(size=(count, 8, 3, 3)), y=labels)
        return {"counts": {"train": 400, "val": 100}, "fingerprint": "good-1"}

    @staticmethod
    def load(run, split: str):
        import torch

        try:
            with np.load(run.data.path / f"{split}.npz") as data:
                return torch.from_numpy(data["x"]).float(), torch.from_numpy(data["y"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{split}.npz cannot be read ({error}); delete the folder to make it again") from error

    def build(self, spec: Spec):
        from torch import nn

        return nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))

    def optimizer(self, model, run):
        import torch

        return torch.optim.SGD(model.parameters(), lr=run.spec.train["lr"], momentum=0.9)

    def batch(self, run, x, y):
        draw = run.rng(0, run.updates)
        pick = draw.integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]

    def train(self, model, run) -> None:
        import torch

        x, y = self.load(run, "train")
        optimizer = self.optimizer(model, run)
        run.bind(optimizer)
        run.load_checkpoint(model, optimizer)
        model.train()
        while run.updates < run.spec.train["steps"]:
            images, labels = self.batch(run, x, y)
            images = images + 0.1 * torch.randn_like(images)
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            self.mixed(run, loss).backward()
            optimizer.step()
            self.after(run, loss)
            if run.checkpoint_due():
                self.save(run, model, optimizer)

    def mixed(self, run, loss):
        return run.distilled(loss)

    def logits(self, output, inputs, keywords):
        return output

    def after(self, run, loss) -> None:
        run.step(loss=loss.detach())

    def save(self, run, model, optimizer) -> None:
        run.save_checkpoint(model, optimizer)

    def mode(self, model):
        from nmbench.task import evaluating

        return evaluating(model)

    def evaluate(self, model, run) -> dict[str, float]:
        import torch

        x, y = self.load(run, "val")
        size = run.spec.train["eval_batch"]
        with torch.no_grad(), self.mode(model) or contextlib.nullcontext():
            out = torch.cat([model(x[i : i + size]) for i in range(0, len(x), size)])
        loss = float(torch.nn.functional.cross_entropy(out, y))
        return {"accuracy": 100 * float((out.argmax(1) == y).float().mean()), "loss": loss}

    def example_inputs(self, spec: Spec):
        import torch

        return (torch.zeros(1, 8, 3, 3),)
