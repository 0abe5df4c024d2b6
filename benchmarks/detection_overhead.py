"""What the harness, and what a method, add to an iteration of mmengine's loop: in one process, in turn, paired.

    python benchmarks/detection_overhead.py [--model faster-rcnn-r18-narrow] [--pairs 200]

Copies of one detector train side by side, each in a Runner of its own, an iteration at a time in turn:

plain     mmengine's Runner on the same model, data set, optimizer and schedule; nothing of nmbench
harness   Task.train without a sparsity handle: the harness' hooks, data order and seeding
dense     Task.train with the handle of a dense cell, which counts the flips of a shadow mask
sparse    Task.train with 2:4 SR-STE

Printed: the median of each and the medians of the paired ratios, in CPU seconds of the process, one thread. Data
loading and everything that happens between two iterations is inside.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from nmbench._util import random as rng
from nmbench.run import Run
from nmbench.sparsity import sparsify
from nmbench.task import DataInfo, Spec
from nmbench_tasks.detection import Detection, Segmentation

Train = Callable[[Callable[[], None]], None]


class Turns:
    """A training that stops after each iteration until it is its turn again."""

    def __init__(self, train: Train) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, args=(train,), daemon=True).start()

    def _run(self, train: Train) -> None:
        self._go.acquire()
        torch.set_num_threads(1)
        train(self._pause)

    def _pause(self) -> None:
        self._done.release()
        self._go.acquire()

    def next(self) -> float:
        """CPU seconds of one more iteration."""
        start = time.process_time()
        self._go.release()
        if not self._done.acquire(timeout=300):
            raise RuntimeError("a training ended or failed before its turns were over")
        return time.process_time() - start


def plain(model: nn.Module, spec: Spec, data: DataInfo, work: Path) -> Train:
    """mmengine alone, on what the task would give it."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    from nmbench_tasks.detection import configs, recipe

    config, _ = configs.fit(spec, masks=False)
    plan = recipe.plan(config, Run(spec, data, None, work), configs.has_masks(config))

    def train(pause: Callable[[], None]) -> None:
        class Pause(Hook):
            priority = "LOWEST"

            def after_train_iter(self, *args: object, **kwargs: object) -> None:
                pause()

        loader = {"batch_size": plan.batch, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": True}}
        Runner(
            model=model,
            work_dir=str(work),
            train_dataloader=loader | {"dataset": plan.dataset},
            train_cfg=plan.loop,
            optim_wrapper=plan.optimizer,
            param_scheduler=plan.schedule,
            default_hooks={"logger": None, "checkpoint": None},
            custom_hooks=[Pause()],
            default_scope="mmdet",
            log_level="ERROR",
            randomness={"seed": 0},
        ).train()

    return train


def harnessed(model: nn.Module, spec: Spec, data: DataInfo, work: Path, method: str | None) -> Train:
    """The task's own training."""
    task = Segmentation() if spec.task == "segmentation" else Detection()
    handle = None if method is None else sparsify(model, "2:4", method, layers=list(task.candidates(model)))

    def train(pause: Callable[[], None]) -> None:
        def beat(step: int | None = None, **_: object) -> None:
            if step:
                pause()

        task.train(model, Run(spec, data, handle, work, beat=beat))

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Detection.models[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = Segmentation() if args.model in Segmentation.models else Detection()
    epochs = 1 + (args.pairs + 10) // 100
    settings = {**task.scales["quick"], "epochs": epochs}
    spec = Spec(task.name, args.model, "quick", 0, settings)
    data = task.prepare(spec, args.data)
    trainings = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, method in {"plain": None, "harness": None, "dense": "dense", "sparse": "sr-ste"}.items():
            rng.seed_all(0, "init")
            model, work = task.build(spec), Path(folder) / name
            made = plain(model, spec, data, work) if name == "plain" else harnessed(model, spec, data, work, method)
            trainings[name] = Turns(made)
        for turns in trainings.values():
            for _ in range(5):
                turns.next()
        order = list(trainings)
        times: dict[str, list[float]] = {name: [] for name in order}
        for i in range(args.pairs):
            for name in order[i % 4 :] + order[: i % 4]:  # each is first as often as any other
                times[name].append(trainings[name].next())
    print(f"{args.model}, quick settings, torch {torch.__version__}, one thread, {args.pairs} iterations of each")
    for name in order:
        print(f"{name:8s} {1e3 * statistics.median(times[name]):8.2f} ms of CPU an iteration (median)")
    for name, base in (("harness", "plain"), ("dense", "plain"), ("sparse", "plain"), ("sparse", "dense")):
        ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        added, total = 100 * (statistics.median(ratios) - 1), 100 * (sum(times[name]) / sum(times[base]) - 1)
        print(
            f"{name:8s} adds {added:6.2f} % to {base} (median of paired ratios; quartiles {low:.3f} {high:.3f}; "
            f"of the sums {total:.2f} %)"
        )


if __name__ == "__main__":
    main()
