"""Fixtures of all tasks' tests, and classification's own: one embedded data set, runs that need no worker."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nmbench._util import random as rng
from nmbench.run import Run
from nmbench.task import DataInfo, Spec
from nmbench_tasks.classification import Classification

#: fixtures that make a whole data set or train: 5 to 25 s for the first test that asks for one
_SLOW = {"embedded", "scenes_on_disk", "flow_data", "learner", "attempt"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what trains or needs a data set, directly or through another fixture."""
    for item in items:
        if Path(__file__).parent in item.path.parents and _SLOW & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: more threads are slower, and sums in another order would differ in their last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step, for each task."""
    monkeypatch.setattr(Run, "checkpoint_due", lambda self, every_s=0.0: True)


def _spec_of(**over: Any) -> Spec:
    fields = {key: over.pop(key) for key in ("seed", "model", "scale") if key in over}
    spec = Spec("classification", "resnet-narrow", "smoke", 0, Classification.scales["smoke"])
    small = {"train_images": 120, "val_images": 60, "batch": 20, "epochs": 2}
    return replace(spec, train={**spec.train, **small, **over}, **fields)


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., Spec]:
    """A smoke cell with fewer images; `seed`, `model`, `scale` replace fields, all else replaces settings."""
    return _spec_of


@pytest.fixture(scope="session")
def embedded(data_root: Path) -> DataInfo:
    """The embedded data, made once; tests must not write there."""
    return Classification().prepare(_spec_of(), data_root)


@pytest.fixture
def make_run(embedded: DataInfo, tmp_path: Path) -> Callable[..., Run]:
    """make_run(spec, beat, work): a run on the embedded data; the same `work` finds the same checkpoints."""

    def make(spec: Spec | None = None, beat: Callable[..., None] | None = None, work: str = "work") -> Run:
        return Run(spec or _spec_of(), embedded, handle=None, work_dir=tmp_path / work, beat=beat)

    return make


@pytest.fixture(scope="session")
def built() -> Callable[[Spec], torch.nn.Module]:
    """The model of a spec, seeded as a worker does it."""

    def make(spec: Spec) -> torch.nn.Module:
        rng.seed_all(spec.seed, "init")
        return Classification().build(spec)

    return make
