"""How long 10,000 records take to become a report, and how much memory: under 30 s and 2 GiB is the aim.

    pytest benchmarks/test_report_speed.py -o addopts= -s

The records are synthetic, in the form and size of those of a study cell (series of 500 steps, flips of eight layers, 16
layers audited): 5 patterns x 4 methods and a dense twin, over settings and seeds. Each stage runs in a process of its
own, whose seconds (imports included) and peak resident memory are printed. Nothing is asserted about them.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RECORDS = 10_000
SEEDS = 10
KINDS = [("dense", "dense")] + [
    (pattern, method)
    for pattern in ("2:4", "4:8", "1:4", "2:8", "1:16")
    for method in ("one-shot", "asp", "ste", "sr-ste")
]
STAGES = {
    "load": "from nmbench.records.frame import load; print(len(load(sys.argv[1]).records), 'records')",
    "load, compare, judge": """
from nmbench.claims import judge
from nmbench.analysis.rows import compare
from nmbench.records.frame import load
loaded = load(sys.argv[1])
rows = compare(loaded.frame)
print(len(rows), 'rows,', len(judge(loaded, rows)), 'verdicts')
""",
    "report": """
from nmbench.report.write import write_report
print(write_report(Path(sys.argv[1]), Path(sys.argv[1] + '-report'), 'synthetic')[-1].name)
""",
}
WATCHED = """
import resource, sys, time
from pathlib import Path
start = time.perf_counter()
{code}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f'{{time.perf_counter() - start:.1f}} s, {{peak:.0f}} MiB')
"""


def record(pattern: str, method: str, setting: int, seed: int, draw: np.random.Generator) -> dict[str, object]:
    steps, weights = 500, 300_000
    flips = draw.integers(0, 900, steps)
    layers = [f"layer{place // 4}.{place % 4}.conv.weight" for place in range(16)]
    return {
        "schema_version": 1,
        "matrix": "synthetic",
        "cell": {"task": f"task-{setting % 8}", "model": f"model-{setting // 8}", "scale": "study", "train": {}}
        | {"pattern": pattern, "method": method, "hyper": {}, "seed": seed},
        "cell_id": hashlib.sha256(f"{pattern}-{method}-{setting}-{seed}".encode()).hexdigest()[:16],
        "attempt": 1,
        "status": "ok",
        "metric_info": [{"name": "top1", "unit": "%", "higher_is_better": True, "margin": 1.0}],
        "metrics": {"top1": float(draw.normal(80, 1)), "loss": float(draw.normal(1, 0.1))},
        "audit": {
            **{"pattern": pattern, "ok": True, "density": 0.5, "weights": weights, "nonzeros": weights // 2},
            "layers": [
                {"name": name, "shape": [64, 64, 3, 3], "role": "sparse", "reason": "", "density": 0.5, "violations": 0}
                for name in layers
            ],
        },
        "sad": {
            **{"pattern": "2:4", "weights": weights, "total": int(flips.sum()), "step": list(range(1, steps + 1))},
            "flips": flips.tolist(),
            "per_layer": dict.fromkeys(layers[:8], int(flips.sum()) // 8),
            "layers": {"step": list(range(16, 513, 16)), "flips": dict.fromkeys(layers[:8], flips[:32].tolist())},
            "snapshots": {"steps": list(range(12)), "consecutive": flips[:11].tolist(), "first_last": 90_000},
        },
        "curve": {
            **{"phase": [0] * steps, "step": list(range(1, steps + 1))},
            **{"loss": draw.normal(1, 0.1, steps).round(6).tolist(), "lr": draw.uniform(0, 0.1, steps).tolist()},
        },
        "cost": {
            "parameters": weights,
            "nonzeros": weights // 2,
            "macs_dense": 41_000_000,
            "macs_effective": 21_000_000,
        }
        | {"bytes_dense": 4 * weights, "bytes_compressed": 2 * weights, "training_passes": 1},
        "timings": {"train_s": 40.0, "steps": steps, "step_ms_median": 20.0, "resumed": False, "alone": False},
        "environment": {"python": "3.11.9", "torch": "2.11.0", "cpu": "Example", "gpu": None, "dirty": False},
        "data": {"fingerprint": "d" * 64, "counts": {"train": 4000, "val": 2000}},
        "command": "nmbench run synthetic",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results") / "synthetic"
    draw = np.random.default_rng(0)
    for place in range(RECORDS):
        setting, rest = divmod(place, len(KINDS) * SEEDS)
        (pattern, method), seed = KINDS[rest // SEEDS], rest % SEEDS
        attempt = root / f"task-{setting % 8}" / f"cell-{place}" / "attempt-1"
        attempt.mkdir(parents=True)
        text = json.dumps(record(pattern, method, setting, seed, draw), indent=1)
        (attempt / "record.json").write_text(text, encoding="utf-8")
    return root


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_report_speed(folder, stage, request, capsys):
    if request.config.getoption("benchmark_disable"):
        pytest.skip("measured with -o addopts= only")
    code = WATCHED.format(code=STAGES[stage])
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with capsys.disabled():
        print(f"\n{stage}: {', '.join(done.stdout.split(chr(10))[:-1])}")
