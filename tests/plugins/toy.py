"""A task that trains for a second: two-layer network on made-up data, with settings that make it fail in every way."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from nmbench.task import DataError, DataInfo, DivergedError, Metric, SkipCell, Spec, Task


class Toy(Task):
    name = "toy"
    metrics = (Metric("accuracy", "%", margin=2.0), Metric("loss", "nats", higher_is_better=False))
    models = ("mlp", "wide")
    scales = {"smoke": {"steps": 20, "pause": 0.0, "fail": "", "save_every": 5}}  # noqa: RUF012

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        if spec.train["fail"] == "data":
            raise DataError("the toy data are missing in data/toy; make them with a spell")
        return DataInfo(root, {"train": 64, "val": 64}, hashlib.sha256(b"toy").hexdigest(), ("made up",))

    def build(self, spec: Spec):
        from torch import nn

        width = 64 if spec.model == "wide" else 32
        return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 2))

    @staticmethod
    def _batch(run, index: int):
        import torch

        generator = torch.Generator().manual_seed(run.stream(0, index))
        x = torch.randn(32, 16, generator=generator)
        return x, (x[:, :8].sum(1) > 0).long()

    def train(self, model, run) -> None:
        import torch

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        run.bind(optimizer)
        settings = run.spec.train
        run.load_checkpoint(model, optimizer)
        while run.updates < settings["steps"]:
            x, y = self._batch(run, run.updates)
            # noise from the global generator: a resumed run must draw what an uninterrupted one draws
            x = x + 0.1 * torch.randn_like(x)
            loss = run.distilled(torch.nn.functional.cross_entropy(model(x), y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss=loss.detach(), lr=0.1, total=settings["steps"])
            self._fail(settings["fail"], run)
            if run.updates % settings["save_every"] == 0:
                run.save_checkpoint(model, optimizer)
            time.sleep(float(os.environ.get("TOY_PAUSE", "0")) or settings["pause"])

    def logits(self, output, inputs, keywords):
        return output

    @staticmethod
    def _fail(kind: str, run) -> None:
        if run.updates != 7:
            return
        if kind == "error":
            raise ValueError("the seventh step is unlucky\nand more lines follow")
        if kind == "disk" and not (marker := run.checkpoint_dir / "full").exists():
            marker.touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "nan":
            run.step(loss=float("nan"))
        if kind == "oom":
            raise MemoryError("no room for the toy")
        if kind == "diverged":
            raise DivergedError("the loss is hopeless")
        if kind == "skipped":
            raise SkipCell("not on this machine")
        if kind == "crash":
            os._exit(3)
        if kind == "signal":
            os.kill(os.getpid(), 11)
        if kind == "child":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", str(run.checkpoint_dir), "child"])
            time.sleep(600)
        if kind == "hang":
            time.sleep(600)

    def evaluate(self, model, run) -> dict[str, float]:
        import torch

        if run.spec.train["fail"] == "no metric":
            return {"accuracy": 50.0}
        x, y = self._batch(run, 10_000)
        with torch.no_grad():
            out = model(x)
        if run.spec.train["fail"] == "break pattern":
            return {"accuracy": float("nan"), "loss": 0.0}
        if run.spec.train["fail"] == "thread":
            threading.Thread(target=time.sleep, args=(200,)).start()
        if run.spec.train["fail"] == "bad note":
            run.note(object())
        if run.spec.train["fail"] == "nan fact":
            run.store_fact("secret", float("nan"))
        hits = (out.argmax(1) == y).float()
        run.store_per_example("correct", hits.tolist())
        run.store_texts("answers", ["yes" if hit else "no" for hit in hits])
        for i in range(2):
            run.store_sample(f"example {i}", {"truth": str(int(y[i]))}, {"answer": str(int(out[i].argmax()))})
        run.store_baseline("chance", accuracy=50.0)
        run.store_fact("examples", y.new_tensor(len(hits)))  # of torch, as it may come
        run.note("a toy")
        return {"accuracy": 100 * float(hits.mean()), "loss": float(torch.nn.functional.cross_entropy(out, y))}

    def example_inputs(self, spec: Spec):
        import torch

        return (torch.zeros(1, 16),)
