"""Fixtures of the translation tests: one embedded corpus for the session, small ones, runs that need no worker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from translation_text import write_text

from nmbench._util import random as rng
from nmbench.run import Run
from nmbench.sparsity import Handle, sparsify
from nmbench.task import DataInfo, Spec
from nmbench_tasks.translation import Translation

TINY = {"updates": 12, "max_tokens": 150, "test_pairs": 20, "warmup_updates": 4, "beam": 2}


def _spec_of(**over: Any) -> Spec:
    fields = {key: over.pop(key) for key in ("seed", "model", "scale") if key in over}
    spec = Spec("translation", "transformer_narrow", "smoke", 0, Translation.scales["smoke"])
    return replace(spec, train={**spec.train, **TINY, **over}, **fields)


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., Spec]:
    """A smoke cell with fewer updates; `seed`, `model`, `scale` replace fields, all else replaces settings."""
    return _spec_of


@pytest.fixture(scope="session")
def embedded(data_root: Path) -> DataInfo:
    """The embedded corpus, made once; tests must not write there."""
    return Translation().prepare(_spec_of(), data_root)


@pytest.fixture(scope="session")
def built() -> Callable[[Spec], torch.nn.Module]:
    """The model of a spec, seeded as a worker does it."""

    def make(spec: Spec) -> torch.nn.Module:
        rng.seed_all(spec.seed, "init")
        return Translation().build(spec)

    return make


@pytest.fixture
def make_run(embedded: DataInfo, tmp_path: Path) -> Callable[..., Run]:
    """make_run(spec, beat, work, handle, data): a run, on the embedded corpus; equal `work` finds equal checkpoints."""

    def make(
        spec: Spec | None = None,
        beat: Callable[..., None] | None = None,
        work: str = "work",
        handle: Handle | None = None,
        data: DataInfo | None = None,
    ) -> Run:
        return Run(spec or _spec_of(), data or embedded, handle, tmp_path / work, beat=beat)

    return make


@pytest.fixture(scope="session")
def sparsified() -> Callable[..., Handle]:
    """sparsified(model, method, pattern, **hyper) as the worker does it."""

    def make(model: torch.nn.Module, method: str = "sr-ste", pattern: str = "2:4", **hyper: Any) -> Handle:
        return sparsify(model, pattern, method, layers=list(Translation().candidates(model)), **hyper)

    return make


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A raw corpus of the user's in text files."""
    return write_text(tmp_path / "mine")
