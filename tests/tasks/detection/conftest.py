"""Fixtures of the detection tests: one embedded data set for the session, and runs that need no worker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet")

from nmbench._util import random as rng
from nmbench.run import Run
from nmbench.sparsity import Handle, sparsify
from nmbench.task import DataInfo, Spec
from nmbench_tasks.detection import Detection, Segmentation

#: as little as still has every part: three steps an epoch, images of 64 px
SMALL = {"train_images": 6, "val_images": 6, "batch": 2, "epochs": 2, "long_side": 64, "short_side": 64}


def _task_of(spec: Spec) -> Detection | Segmentation:
    return Segmentation() if spec.task == "segmentation" else Detection()


def _spec_of(**over: Any) -> Spec:
    fields = {key: over.pop(key) for key in ("seed", "model", "scale", "task") if key in over}
    model = "mask-rcnn-r18-narrow" if fields.get("task") == "segmentation" else "faster-rcnn-r18-narrow"
    spec = Spec("detection", model, "smoke", 0, Detection.scales["smoke"])
    return replace(spec, train={**spec.train, **SMALL, **over}, **fields)


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., Spec]:
    """A tiny smoke cell; `seed`, `model`, `scale`, `task` replace fields, all else replaces settings."""
    return _spec_of


@pytest.fixture(scope="session")
def scenes_on_disk(data_root: Path) -> DataInfo:
    """The embedded data, made once; tests must not write there."""
    return Detection().prepare(_spec_of(), data_root)


@pytest.fixture
def run_of(scenes_on_disk: DataInfo, tmp_path: Path) -> Callable[..., Run]:
    """run_of(spec, work, handle, beat): a run on the embedded data; the same `work` finds the same checkpoints."""

    def make(
        spec: Spec | None = None,
        work: str = "work",
        handle: Handle | None = None,
        beat: Callable[..., None] | None = None,
    ) -> Run:
        return Run(spec or _spec_of(), scenes_on_disk, handle, tmp_path / work, beat=beat)

    return make


@pytest.fixture(scope="session")
def built() -> Callable[[Spec], torch.nn.Module]:
    """The model of a spec, seeded as a worker does it."""

    def make(spec: Spec) -> torch.nn.Module:
        rng.seed_all(spec.seed, "init")
        return _task_of(spec).build(spec)

    return make


@pytest.fixture
def attempt(
    run_of: Callable[..., Run], built: Callable[[Spec], torch.nn.Module]
) -> Callable[..., tuple[torch.nn.Module, Handle, Run]]:
    """attempt(spec, method, work, beat, watch, **hyper): build, sparsify at 2:4, train; the handle is still live.

    `watch(model, run)` may look at both before training.
    """

    def go(
        spec: Spec | None = None,
        method: str = "sr-ste",
        work: str = "work",
        beat: Callable[..., None] | None = None,
        watch: Callable[[torch.nn.Module, Run], None] | None = None,
        **hyper: Any,
    ) -> tuple[torch.nn.Module, Handle, Run]:
        spec = spec or _spec_of()
        task, model = _task_of(spec), built(spec)
        handle = sparsify(model, "2:4", method, layers=list(task.candidates(model)), **hyper)
        run = run_of(spec, work, handle, beat)
        if watch:
            watch(model, run)
        task.train(model, run)
        return model, handle, run

    return go


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[..., str]:
    """config_file(frozen_stages=..., train_cfg=..., **sections): an mmdet config with a small Faster R-CNN; its path.

    Its recipe is its own: SGD, a drop after the first of two epochs, images of 64 px, some of them mirrored.
    """

    def write(frozen_stages: int = -1, **sections: Any) -> str:
        from mmengine.config import Config

        from nmbench_tasks.detection import configs

        model = configs.load("faster-rcnn-r18-narrow").model.to_dict()
        model["backbone"]["frozen_stages"] = frozen_stages
        steps = [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True},
            {"type": "Resize", "scale": (64, 64), "keep_ratio": True},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "PackDetInputs"},
        ]
        whole = {
            "model": model,
            "train_dataloader": {
                "batch_size": 2,
                "num_workers": 0,
                "batch_sampler": {"type": "AspectRatioBatchSampler"},
                "dataset": {"type": "CocoDataset", "ann_file": "?", "pipeline": steps},
            },
            "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 2},
            "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9}},
            "param_scheduler": [
                {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 2},
                {"type": "MultiStepLR", "by_epoch": True, "milestones": [1], "gamma": 0.1},
            ],
        }
        path = tmp_path / f"config_{len(list(tmp_path.glob('config_*')))}.py"
        path.write_text(Config(whole | sections).pretty_text)
        return str(path)

    return write
