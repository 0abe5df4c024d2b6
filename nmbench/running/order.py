"""What is known of cells before they run. Policy for any scheduler: nothing here starts a process."""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nmbench.plan.catalogue import Catalogue, code_hash
from nmbench.plan.cell import Cell
from nmbench.plan.declarations import TaskPlugin
from nmbench.records import schema
from nmbench.records.attempt import WEIGHTS
from nmbench.records.schema import MetricInfo, Record, Status
from nmbench.records.store import Store


@dataclass(frozen=True)
class Options:
    """How to run.

    command: what reproduces a cell, without `--only id`. alone: ids of cells that run with nothing beside them.
    codes: cell id -> hash of the code that it is to be run with; of others that is not asked.
    """

    data: Path = Path("data")
    trace: bool = False
    command: str = ""
    alone: frozenset[str] = frozenset()
    codes: Mapping[str, str] = field(default_factory=dict)


def wants_twin(cell: Cell, starts_dense: Collection[str]) -> bool:
    """Does it take over its dense twin's training (its method is in `starts_dense`), or learn from it?"""
    return cell.method in starts_dense or bool(cell.distill)


class Queue:
    """Cells that wait. Those of `alone` go first: dense twins are among them, and others wait for these.

    A cell that wants its dense twin's weights waits until the twin has ended, if that is to run too.
    """

    def __init__(self, cells: Iterable[Cell], alone: Collection[str], starts_dense: Collection[str]) -> None:
        ordered = sorted(cells, key=lambda cell: cell.id not in alone)
        self._waiting = len(ordered)
        self._ready: list[tuple[int, Cell]] = []
        self._after: dict[str, list[tuple[int, Cell]]] = {}
        ids = {cell.id for cell in ordered}
        for place in enumerate(ordered):
            twin = place[1].twin.id if wants_twin(place[1], starts_dense) else ""
            (self._after.setdefault(twin, []) if twin in ids else self._ready).append(place)

    def __len__(self) -> int:
        """Cells that have not been taken."""
        return self._waiting

    @property
    def chained(self) -> bool:
        """Do some cells wait for others?"""
        return bool(self._after)

    def first(self) -> Cell | None:
        """The cell that is to start next; None if all that are left wait for others."""
        return self._ready[0][1] if self._ready else None

    def take(self) -> None:
        """It starts."""
        heapq.heappop(self._ready)
        self._waiting -= 1

    def put_back(self, cell: Cell) -> None:
        """It did not come to start after all: it is the next one."""
        place = self._ready[0][0] - 1 if self._ready else 0
        heapq.heappush(self._ready, (place, cell))
        self._waiting += 1

    def ended(self, cell: Cell) -> None:
        """Cells that waited for this one may start, at their place."""
        for place in self._after.pop(cell.id, []):
            heapq.heappush(self._ready, place)


class Codes:
    """Hash of the code that a cell executes, worked out once for each task and method."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, cell: Cell) -> str:
        """Of that cell."""
        key = (cell.task, cell.method)
        if key not in self._known:
            tasks, methods = self._catalogue.tasks, self._catalogue.methods
            self._known[key] = code_hash(tasks[cell.task], methods.get(cell.method))
        return self._known[key]


def ranks(cell: Cell, plugin: TaskPlugin) -> int:
    """Processes that train the cell together: its setting `gpus`, where the task has one."""
    scale = plugin.declaration.scales.get(cell.scale) if plugin.declaration else None
    value = {**(scale.defaults if scale else {}), **cell.train}.get("gpus", 1)
    return max(1, value) if isinstance(value, int) else 1


def head(cell: Cell, attempt: int, plugin: TaskPlugin, matrix: str, command: str) -> Record:
    """The record of an attempt that leaves no other. command: runs the matrix; the cell's id is put after it."""
    declared = plugin.declaration
    return Record(
        schema_version=1,
        matrix=matrix,
        cell=cell,
        cell_id=cell.id,
        attempt=attempt,
        status=Status.CRASH,
        plugin=schema.Plugin(
            distribution=plugin.distribution, version=plugin.version, contract=declared.contract if declared else None
        ),
        metric_info=[MetricInfo(**vars(metric)) for metric in declared.metrics] if declared else [],
        command=f"{command} --only {cell.id}",
        notes=[],
    )


def first_phase(cell: Cell, store: Store, code: str) -> Path | None:
    """Folder of the dense twin's attempt, if it ended well with the same code and left its weights."""
    state = store.state(cell.twin)
    if not state.done or state.record is None or state.path is None:
        return None
    same = state.record.environment is not None and state.record.environment.code == code
    return state.path.absolute() if same and (state.path / WEIGHTS).is_file() else None
