"""A task whose cells are trained by as many ranks as its setting `gpus` says, with torch's DistributedDataParallel."""

import os
import time
from pathlib import Path

from nmbench.task import DataError, DataInfo, Metric, Spec, Task


class Ranked(Task):
    name = "ranked"
    metrics = (Metric("loss", "nats", higher_is_better=False),)
    models = ("mlp",)
    scales = {"smoke": {"steps": 12, "gpus": 1, "fail": ""}}  # noqa: RUF012

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        return DataInfo(root, {"train": 64}, "f" * 64)

    def build(self, spec: Spec):
        from torch import nn

        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))

    @staticmethod
    def _batch(run, step: int):
        import torch

        x = torch.randn(32, 16, generator=torch.Generator().manual_seed(run.stream(0, step)))
        return x, (x[:, :8].sum(1) > 0).long()

    def train(self, model, run) -> None:
        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        run.bind(optimizer)
        network = model
        if run.ranks > 1:
            dist.init_process_group("gloo")
            assert (dist.get_rank(), dist.get_world_size()) == (run.rank, run.ranks)
            network = DistributedDataParallel(model)
        run.load_checkpoint(model, optimizer)
        while run.updates < run.spec.train["steps"]:
            x, y = self._batch(run, run.updates)
            share = slice(run.rank, None, run.ranks)
            loss = torch.nn.functional.cross_entropy(network(x[share]), y[share])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss=loss.detach(), lr=0.1)
            if run.updates % 4 == 0:
                run.save_checkpoint(model, optimizer)
            self._fail(run)
            time.sleep(float(os.environ.get("TOY_PAUSE", "0")))

    @staticmethod
    def _fail(run) -> None:
        if run.updates == 5 and run.rank == 1:
            if run.spec.train["fail"] == "data":
                raise DataError("this rank's shard is missing")
            if run.spec.train["fail"] == "leave":
                os._exit(0)

    def evaluate(self, model, run) -> dict[str, float]:
        import torch

        assert "WORLD_SIZE" not in os.environ
        x, y = self._batch(run, 10_000)
        with torch.no_grad():
            loss = float(torch.nn.functional.cross_entropy(model(x), y))
        run.store_fact("ranks", run.ranks)
        return {"loss": loss}

    def example_inputs(self, spec: Spec):
        import torch

        return (torch.zeros(1, 16),)
