"""The speed of a matrix' done cells, measured once for each model and pattern in one process: `speed = true`.

Seeds and most methods change which weights a model keeps, not how many: what was measured on one cell holds for its
group. Where a method left other layers sparse, or to other patterns, its cells are a group of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from nmbench._util import child
from nmbench._util.groups import grouped
from nmbench._util.settings import canonical
from nmbench.document.words import plural
from nmbench.records.store import CellState
from nmbench.running.speed import Answer, Settings, complete, environment, job_for

#: jobs of one process: they are told on its command line
_MOST_JOBS = 16
_BUDGET_S = 2.0
#: of one job: its imports, its data, its conversion
_LIMIT_S = 120.0


@dataclass(frozen=True)
class Group:
    """Done cells of one model and one pattern, and their dense twins. The first one's weights are timed."""

    cells: tuple[CellState, ...]

    @property
    def measured(self) -> CellState:
        """The one whose weights are timed."""
        return self.cells[0]


def groups(states: Iterable[CellState]) -> list[Group]:
    """Each state in one group, in their order: dense cells go with the first sparse ones of their model, if any."""
    by_model = grouped(
        ((one.cell.task, one.cell.model, one.cell.scale, canonical(one.cell.train)), one) for one in states
    )
    made = []
    for own in by_model.values():
        dense = [state for state in own if state.cell.is_dense]
        sparse = list(grouped((_kept(state), state) for state in own if not state.cell.is_dense).values())
        made += [Group((*first, *dense)) for first in sparse[:1] or [()]] + [Group(tuple(one)) for one in sparse[1:]]
    return made


def _kept(state: CellState) -> tuple[object, ...]:
    """What the audit found each layer to keep to."""
    audit = state.record.audit if state.record else None
    layers = [(layer.name, layer.role, layer.pattern) for layer in audit.layers] if audit else []
    return state.cell.pattern_text, *layers


def measure(wanted: list[Group], references: Mapping[str, str], settings: Settings, say: Callable[[str], None]) -> None:
    """Measure the groups and complete the records of all their cells. references: of the tasks, by name.

    Raises nothing that a cell causes: what went wrong is a note of its record.
    """
    settings = replace(settings, budget_s=_BUDGET_S)
    for start in range(0, len(wanted), _MOST_JOBS):
        some = wanted[start : start + _MOST_JOBS]
        jobs = [job_for(one.measured, references[one.measured.cell.task], settings, brief=True) for one in some]
        command = "nmbench.worker", "--speeds", json.dumps([job.model_dump(mode="json") for job in jobs])
        reply = child.ask(*command, timeout=_LIMIT_S * len(jobs), environment=environment(settings))
        for number, group in enumerate(some, start + 1):
            own = [given for given in reply.answers if given.get("cell") == group.measured.cell.id]
            answer = Answer.read(own, reply.ending)
            texts = [complete(state, _of(answer, state, group)) for state in group.cells]
            more = f" (and {plural(len(texts) - 1, 'more cell')})" if len(texts) > 1 else ""
            say(f"speed {number}/{len(wanted)} {group.measured.cell.label}{more}: {texts[0]}")


def _of(answer: Answer, state: CellState, group: Group) -> Answer:
    """What a measurement says of another cell of its group."""
    if answer.speed is None or state is group.measured:
        return answer
    notes = [*answer.speed.notes, f"measured on {group.measured.cell.label}, the same model with the same pattern"]
    section = answer.speed.model_copy(update={"notes": notes})
    if state.cell.is_dense:
        converted = {"converted_ms": None, "converted_per_s": None, "converted_quartiles_ms": None, "ratio": None}
        rows = [row.model_copy(update=converted) for row in section.rows]
        note = f"measured beside {group.measured.cell.label}, with its weights: zeros cost what any number costs"
        section = section.model_copy(update={"rows": rows, "layers": [], "notes": [note]})
    return answer.model_copy(update={"speed": section})
