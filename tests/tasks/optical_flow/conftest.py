"""Fixtures of the optical-flow tests: a small embedded data set for the session, runs, a user's FlyingChairs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmbench._util import random as rng
from nmbench.run import Run
from nmbench.task import DataInfo, Spec
from nmbench_tasks.optical_flow import OpticalFlow, embedded, files

SMALL = {"train": 6, "val": 3}


def _spec(**over: Any) -> Spec:
    fields = {key: over.pop(key) for key in ("seed", "model", "scale") if key in over}
    base = OpticalFlow.scales[fields.get("scale", "smoke")]
    small = {} if fields.get("scale") else {"steps": 4, "batch": 1, "updates": 2, "eval_updates": 2}
    small |= {} if fields.get("scale") else {"train_pairs": 0, "val_pairs": 0}
    return replace(Spec("optical-flow", "raft_small", "smoke", 0), train={**base, **small, **over}, **fields)


@pytest.fixture(scope="session")
def flow_spec() -> Callable[..., Spec]:
    """A smoke cell with fewer and shorter steps; `seed`, `model`, `scale` replace fields, all else settings."""
    return _spec


@pytest.fixture(scope="session")
def flow_data(tmp_path_factory: pytest.TempPathFactory) -> DataInfo:
    """Nine embedded pairs, made once; tests must not write there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "SPLITS", SMALL)
        return embedded.prepare(tmp_path_factory.mktemp("flow"))


@pytest.fixture
def flow_run(flow_data: DataInfo, tmp_path: Path) -> Callable[..., Run]:
    """flow_run(spec, beat, work, data, handle): the same `work` finds the same checkpoints."""

    def make(
        spec: Spec | None = None,
        beat: Callable[..., None] | None = None,
        work: str = "work",
        data: DataInfo | None = None,
        handle: Any = None,
    ) -> Run:
        return Run(spec or _spec(), data or flow_data, handle, tmp_path / work, beat=beat)

    return make


@pytest.fixture(scope="session")
def flow_model() -> Callable[[Spec], torch.nn.Module]:
    """The model of a spec, seeded as a worker does it."""

    def make(spec: Spec) -> torch.nn.Module:
        rng.seed_all(spec.seed, "init")
        return OpticalFlow().build(spec)

    return make


def write_pair(stem: Path, size: tuple[int, int] = (136, 150), seed: int = 0) -> None:
    """stem_img1.ppm, stem_img2.ppm, stem_flow.flo of `size` (height, width)."""
    noise = np.random.default_rng(seed)
    for number in (1, 2):
        image = noise.integers(0, 256, (*size, 3), dtype=np.uint8)
        files.write_ppm(stem.with_name(f"{stem.name}_img{number}.ppm"), image)
    files.write_flo(stem.with_name(f"{stem.name}_flow.flo"), noise.normal(0, 3, (2, *size)))


@pytest.fixture
def chairs(tmp_path: Path) -> Path:
    """A root with FlyingChairs of four pairs for training and two for validation, 150 x 136 px."""
    folder = tmp_path / "mine" / "FlyingChairs"
    (folder / "data").mkdir(parents=True)
    for number in range(6):
        write_pair(folder / "data" / f"{number + 1:05d}", seed=number)
    files.write_split(folder / "FlyingChairs_train_val.txt", [1, 1, 2, 1, 1, 2])
    return folder.parent
