"""The speed of a finished cell, from the weights that it left, in a process of its own: `nmbench run --speed`.

wanted     which cells are to be measured, and which cannot be
ask        parent: one cell; its record gets a section `speed`, or a note that says why not

It runs when nothing else does, after the cells: what shares the machine would be in the figures. The cell's record is
there already, so that nothing that happens here can lose it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmbench.records.schema import Record, Speed
from nmbench.records.store import CellState

__all__ = ["WEIGHTS", "Settings", "ask", "unfinished", "wanted"]

_FAILED = "its speed was not measured: "
WEIGHTS = "weights.safetensors"
_SEPARATOR = "\x1e"  # before each answer of the child


@dataclass(frozen=True)
class Settings:
    """device: "cpu" or "cuda". budget_s: seconds of measuring a cell. data: folder of all data sets."""

    device: str
    data: Path
    budget_s: float = 30.0

    @property
    def limit_s(self) -> float:
        """After which the process is ended: imports, a check of the data and conversion come on top of measuring."""
        return 420.0 + 28.0 * self.budget_s


def wanted(states: Iterable[CellState], device: str) -> tuple[list[CellState], int]:
    """(done cells without a speed, how many of them left no weights here).

    What a CPU measured counts as none where there is a GPU: only dense kernels ran there.
    """
    missing = [state for state in states if state.done and state.record and not _measured(state.record, device)]
    here = [state for state in missing if state.path is not None and (state.path / WEIGHTS).is_file()]
    return here, len(missing) - len(here)


def _measured(record: Record, device: str) -> bool:
    speed = record.speed
    return speed is not None and bool(speed.rows) and (device == "cpu" or speed.type == "cuda")


def ask(state: CellState, reference: str, settings: Settings) -> str:
    """Measure one cell and complete its record; what happened, on one line. Raises nothing that the cell causes."""
    assert state.path is not None
    assert state.record is not None
    job = {
        "cell": state.cell.to_dict(),
        "reference": reference,
        "attempt_dir": str(state.path.absolute()),
        "data_dir": str(settings.data.absolute()),
        "device": settings.device,
        "budget_s": settings.budget_s,
        "parent": os.getpid(),
    }
    found = _process(job, settings)
    record = state.record.model_copy()
    record.notes = [note for note in record.notes if not note.startswith(_FAILED)]
    if "speed" in found:
        record.speed = Speed.model_validate(found["speed"])
        said = "; ".join(map(_said, found["speed"]["rows"]))
    else:
        said = _FAILED + str(found["failed"])
        record.notes.append(said)
    record.write(state.path / "record.json")
    return said


def _said(row: dict[str, Any]) -> str:
    dense = f"batch {row['batch']}: dense {row['dense_ms']:.4g} ms"
    return dense if row["ratio"] is None else f"{dense}, converted {row['converted_ms']:.4g} ms ({row['ratio']:.3g}x)"


def _process(job: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """{"speed": section} or {"failed": why}, whatever the child does."""
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if settings.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "nmbench.worker", "--speed", json.dumps(job)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=settings.limit_s, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""  # bytes, whatever was asked for
        out = said if isinstance(said, str) else said.decode(errors="replace")
        why = f"it took more than {settings.limit_s:g} s"
    else:
        out = done.stdout
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        why = f"its process ended with status {done.returncode}: {last[:200]}"
    for text in reversed(out.split(_SEPARATOR)[1:]):
        try:
            told = json.JSONDecoder().raw_decode(text)[0]  # a model may print after it
        except (ValueError, RecursionError):  # cut off, or printed by a model; what came before it is whole
            continue
        if isinstance(told, dict) and ("failed" in told or isinstance(told.get("speed"), dict)):
            return unfinished(told["speed"], why) if told.pop("unfinished", False) else told
    return {"failed": why}


def unfinished(section: dict[str, Any], why: str) -> dict[str, Any]:
    """What was measured before it went wrong."""
    return {"speed": {**section, "notes": [*section["notes"], f"larger batches were not measured: {why}"]}}
