"""The speed of a finished cell, from the weights that it left, in a process of its own: `nmbench run --speed`.

It runs when nothing else does, after the cells: what shares the machine would be in the figures. The cell's record is
there already, so that nothing that happens here can lose it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from nmbench._util import child
from nmbench.records.attempt import RECORD, WEIGHTS
from nmbench.records.schema import Speed, SpeedRow
from nmbench.records.store import CellState
from nmbench.running.job import SpeedJob

_FAILED = "its speed was not measured: "


@dataclass(frozen=True)
class Settings:
    """data: folder of all data sets. budget_s: seconds of measuring a cell."""

    device: Literal["cpu", "cuda"]
    data: Path
    budget_s: float = 30.0

    @property
    def limit_s(self) -> float:
        """After which the process is ended: imports, a check of the data and conversion come on top of measuring."""
        return 420.0 + 28.0 * self.budget_s


class Answer(BaseModel):
    """The section, or why there is none.

    unfinished: more is to come, unless the process ends before. cell: its id, where a process answers for several.
    """

    speed: Speed | None = None
    failed: str = ""
    unfinished: bool = False
    cell: str = ""

    def cut_short(self, why: str) -> Answer:
        """What was measured before it went wrong."""
        if self.speed is None:
            return Answer(failed=why)
        notes = [*self.speed.notes, f"larger batches were not measured: {why}"]
        return Answer(speed=self.speed.model_copy(update={"notes": notes}))

    @classmethod
    def read(cls, objects: Sequence[dict[str, Any]], ending: str) -> Answer:
        """The last answer among what a child printed, a model's own output included; ending: how its process ended."""
        for fields in reversed(objects):
            try:
                answer = cls.model_validate(fields)
            except ValidationError:
                continue
            if answer.speed is not None or answer.failed:
                return answer.cut_short(ending) if answer.unfinished else answer
        return cls(failed=ending)


def wanted(states: Iterable[CellState], device: str, brief: bool = False) -> tuple[list[CellState], int]:
    """(done cells without a speed, how many of them left no weights here).

    What a CPU measured counts as none where there is a GPU, and a brief measurement only where one is asked for.
    """
    missing = [s for s in states if s.done and s.record and not _measured(s.record.speed, device, brief)]
    here = [state for state in missing if state.path is not None and (state.path / WEIGHTS).is_file()]
    return here, len(missing) - len(here)


def _measured(speed: Speed | None, device: str, brief: bool) -> bool:
    if speed is None or not speed.rows:
        return False
    return (device == "cpu" or speed.type == "cuda") and (brief or not speed.brief)


def ask(state: CellState, reference: str, settings: Settings) -> str:
    """Measure one cell and complete its record; what happened, on one line. Raises nothing that the cell causes."""
    job = job_for(state, reference, settings)
    command = "nmbench.worker", "--speed", job.model_dump_json()
    reply = child.ask(*command, timeout=settings.limit_s, environment=environment(settings))
    return complete(state, Answer.read(reply.answers, reply.ending))


def job_for(state: CellState, reference: str, settings: Settings, brief: bool = False) -> SpeedJob:
    """What a worker is told of a done cell whose weights are here."""
    assert state.path is not None
    assert state.record is not None
    return SpeedJob(
        cell=state.cell,
        reference=reference,
        data_dir=settings.data.absolute(),
        device=settings.device,
        attempt_dir=state.path.absolute(),
        weights=state.record.weights_sha256,
        budget_s=settings.budget_s,
        brief=brief,
    )


def environment(settings: Settings) -> dict[str, str]:
    """Of the process that measures."""
    return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} | ({"CUDA_VISIBLE_DEVICES": ""} if settings.device == "cpu" else {})


def complete(state: CellState, answer: Answer) -> str:
    """Put the answer into the cell's record, which is otherwise left as it is; the answer on one line."""
    record, attempt = state.record, state.path
    assert record is not None
    assert attempt is not None
    record.notes = [note for note in record.notes if not note.startswith(_FAILED)]
    if answer.speed is None:
        text = _FAILED + answer.failed
        record.notes.append(text)
    else:
        record.speed = answer.speed
        text = "; ".join(map(_words, answer.speed.rows))
    record.write(attempt / RECORD)
    return text


def _words(row: SpeedRow) -> str:
    dense = f"batch {row.batch}: dense {row.dense_ms:.4g} ms"
    return dense if row.ratio is None else f"{dense}, converted {row.converted_ms:.4g} ms ({row.ratio:.3g}x)"
