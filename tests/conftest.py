"""A factory for synthetic results folders that follow the record schema (nmbench.records.schema); one cache for all.

What nmbench compiles and describes is kept from one test, process and run of the tests to the next, apart from the
user's own.
"""

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import _trained_once, _zygote, another, nmbench, project, trained, two_ranks  # noqa: F401 (fixtures)

from nmbench.sparsity.pattern import NMPattern

Record = dict[str, Any]

TOP1 = {"name": "top1", "unit": "%", "higher_is_better": True, "margin": 1.0}
LOSS = {"name": "loss", "unit": "", "higher_is_better": False, "margin": 0.1}
PASSES = {"asp": 2}
LAYERS = [("stem.weight", [64, 3, 3, 3]), ("body.weight", [128, 64, 3, 3]), ("gate.weight", [96, 96])]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "cache"):
        os.environ.setdefault("NMBENCH_CACHE", str(config.cache.mkdir("nmbench")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"project", "another"} & set(getattr(item, "fixturenames", ())):  # it starts workers, which import torch
            item.add_marker(pytest.mark.slow)


class Results:
    """A results folder under construction: `add` one attempt's record, or `put` any text in its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pattern: str = "2:4", method: str = "sr-ste", seed: int = 0, **changes: Any) -> Path:
        record = make_record(pattern, method, seed, **changes)
        return self.put(json.dumps(record), record["cell"], record["cell_id"], record["attempt"])

    def twin(self, seed: int = 0, **changes: Any) -> Path:
        return self.add("dense", "dense", seed, **changes)

    def fail(self, status: str, message: str = "it broke", pattern: str = "2:4", method: str = "ste", **changes: Any):
        changes = {"error": {"kind": status, "message": message, "traceback": "traceback.txt"}, **changes}
        return self.add(pattern, method, status=status, **changes)

    def put(self, text: str, cell: Record, cell_id: str, attempt: int = 1) -> Path:
        slug = f"{cell['model']}-{cell['pattern'].replace(':', '-')}-{cell['method']}-s{cell['seed']}-{cell_id[:8]}"
        file = self.folder / cell["task"] / slug / f"attempt-{attempt}" / "record.json"
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
        return file


def make_record(
    pattern: str = "2:4",
    method: str = "sr-ste",
    seed: int = 0,
    value: float | None = None,
    attempt: int = 1,
    status: str = "ok",
    metric: Record = TOP1,
    cell: Record | None = None,
    steps: int = 40,
    **changes: Any,
) -> Record:
    """One record; `cell` overrides fields of the cell, `changes` replace keys of the record (None removes one)."""
    cell = {
        **{"task": "classification", "model": "resnet20", "scale": "quick", "train": {}, "pattern": pattern},
        **{"method": method, "hyper": {}, "seed": seed},
        **(cell or {}),
    }
    record: Record = {
        "schema_version": 1,
        "matrix": "quick",
        "cell": cell,
        "cell_id": hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16],
        "attempt": attempt,
        "status": status,
        "metric_info": [metric],
        "environment": ENVIRONMENT,
        "plugin": {"distribution": "nmbench", "version": "0.1.0", "contract": 1},
        "command": f"nmbench run quick --only {cell['model']}-{pattern.replace(':', '-')}-{method}-s{seed}",
    }
    if status == "ok":
        number = 80.0 if value is None else value
        record |= {"metrics": {metric["name"]: number}, "data": {"fingerprint": "d" * 64, "counts": {"train": 512}}}
        record |= _training(pattern, method, seed, steps)
    record.update(changes)
    return copy.deepcopy({key: value for key, value in record.items() if value is not None})


ENVIRONMENT = {
    "python": "3.11.9",
    "versions": {"torch": "2.11.0", "torchvision": "0.26.0"},
    "cpu": "Example CPU 3000",
    "cores": 8,
    "threads": 1,
    "gpu": None,
    "driver": None,
    "commit": "0123456789abcdef",
    "dirty": False,
    "code": "c0de",
}


def _training(pattern: str, method: str, seed: int, steps: int) -> Record:
    density = 1.0 if pattern == "dense" else NMPattern.parse(pattern).density
    weights, passes = 128 * 64 * 9 + 96 * 96, PASSES.get(method, 1)
    draw = np.random.default_rng([seed, len(method), len(pattern)])
    step = list(range(4, steps + 1, 4))
    rate = {"ste": 2e-3, "sr-ste": 4e-4, "dense": 8e-4}.get(method, 0.0)
    flips = [int(4 * weights * rate * (0.1 + 0.9 * (1 - s / steps)) * draw.uniform(0.9, 1.1)) for s in step]
    loss = [round(0.3 + 2 * np.exp(-4 * s / steps) + draw.uniform(0, 0.05), 4) for s in step] * passes
    dense_bytes = 4 * (weights + 64 * 27)
    return {
        "audit": {
            "pattern": None if pattern == "dense" else pattern,
            "ok": True,
            "density": density,
            "weights": weights,
            "nonzeros": int(weights * density),
            "layers": [
                {"name": name, "shape": shape, "role": "dense" if name == "stem.weight" else "sparse"}
                | {"reason": "3 input channels are fewer than M" if name == "stem.weight" else "", "violations": 0}
                for name, shape in LAYERS
            ],
        },
        "sad": {
            "pattern": "2:4" if pattern == "dense" else pattern,
            **{"weights": weights, "total": sum(flips), "per_layer": {}, "step": step, "flips": flips},
            "snapshots": {"steps": [], "consecutive": [], "first_last": 0},
        },
        "curve": {
            "phase": [phase for phase in range(passes) for _ in step],
            **{"step": step * passes, "loss": loss, "lr": [0.1] * len(loss)},
        },
        "cost": {
            "parameters": weights + 64 * 27,
            "nonzeros": int(weights * density) + 64 * 27,
            **{"macs_dense": 41_000_000, "macs_effective": int(3_000_000 + 38_000_000 * density)},
            **{
                "bytes_dense": dense_bytes,
                "bytes_compressed": int(dense_bytes * (density * 1.0625 if density < 1 else 1)),
            },
            "training_passes": passes,
        },
        "timings": {
            **{"prepare_s": 0.1, "build_s": 0.2, "train_s": 100.0 * passes * (1 if method == "dense" else 1.08)},
            **{"evaluate_s": 1.0, "total_s": 105.0, "steps": steps * passes, "step_ms_median": 20.0},
            **{"resumed": False, "alone": True},
        },
    }


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where embedded data are made, once for all the workers of a run; tests must not write there."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "embedded"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results" / "quick")


@pytest.fixture(scope="session")
def factory():
    """(Results, make_record), for tests that build more than one folder."""
    return Results, make_record


@pytest.fixture
def small(results):
    """Three seeds of two methods, one seed of another model, two failures, a broken record and a killed attempt."""
    gaps = {"sr-ste": (-0.3, -0.2, -0.4), "ste": (-3.1, -2.8, -3.5)}
    for seed in range(3):
        results.twin(seed, value=83.0 + seed)
        for method, gap in gaps.items():
            results.add("2:4", method, seed, value=round(83.0 + seed + gap[seed], 2))
    results.add("1:16", "asp", 0, value=74.5)
    results.add("2:4", "ste", 0, value=88.0, cell={"model": "vit_tiny"})
    results.fail("oom", "out of memory | 2 GiB\nmore", "1:16", "ste")
    results.fail("import", "No module named 'x'", cell={"task": "detection", "model": "frcnn"})
    file = results.add("1:4", "ste", 0)
    file.write_text(file.read_text()[:200])
    results.add("1:4", "ste", 1).unlink()
    return results
