"""What a person sees while a matrix runs: bars on a terminal, one line an event elsewhere."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from nmbench.plan.cell import Cell
from nmbench.records.schema import Record
from nmbench.running.job import Beat

__all__ = ["Lines", "Progress", "Terminal", "progress_for"]


class Progress(Protocol):
    """Shows what is going on; what it does not override is not shown."""

    def begin(self, total: int, workers: int, threads: int) -> None:
        """Cells will run."""

    def started(self, cell: Cell) -> None:
        """A worker took the cell."""

    def beat(self, cell: Cell, beat: Beat) -> None:
        """What the worker told last."""
        return

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """The cell has a record."""

    def close(self) -> None:
        """No more cells."""
        return


def _summary(record: Record) -> str:
    if record.status.failed:
        return (record.error and record.error.message) or ""
    if record.primary is None or record.primary_value is None:
        return ""
    return f"{record.primary.name} {record.primary_value:.4g} {record.primary.unit}".rstrip()


class _Count:
    """Cells done and failed, and an estimate of the time left."""

    def __init__(self) -> None:
        self.total = self.ended = self.failed = self.workers = 0
        self.seconds: list[float] = []

    def add(self, record: Record, seconds: float) -> None:
        self.ended += 1
        self.failed += record.status.failed
        if seconds > 0:
            self.seconds.append(seconds)

    def left(self) -> str:
        """Time left in words; empty before the first cell has ended."""
        remaining = self.total - self.ended
        if not self.seconds or remaining <= 0:
            return ""
        guess = sum(self.seconds) / len(self.seconds) * remaining / max(1, self.workers)
        return f"about {guess / 60:.0f} min left" if guess >= 90 else f"about {guess:.0f} s left"


class Lines(Progress):
    """Plain lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.count = _Count()

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, total: int, workers: int, threads: int) -> None:
        """See Progress."""
        self.count.total, self.count.workers = total, workers
        self._say(f"{total} cells to run, {workers} at a time, {threads} threads each")

    def started(self, cell: Cell) -> None:
        """See Progress."""
        self._say(f"start  {cell.label}")

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """See Progress."""
        self.count.add(record, seconds)
        head = f"[{self.count.ended}/{self.count.total}] {record.status}"
        self._say("  ".join(filter(None, [head, cell.label, f"{seconds:.0f} s", _summary(record), self.count.left()])))


class Terminal(Progress):
    """Bars: one for the matrix, one for each running cell; ended cells scroll away above them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.count = _Count()
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}")]
        self.bars = Bars(*columns, TimeElapsedColumn(), console=console)
        self.overall: TaskID | None = None
        self.rows: dict[str, TaskID] = {}

    def begin(self, total: int, workers: int, threads: int) -> None:
        """See Progress."""
        self.count.total, self.count.workers = total, workers
        self.bars.start()
        self.overall = self.bars.add_task("[bold]matrix", total=total, note="")
        self._note()

    def _note(self) -> None:
        counts = f"{self.count.ended - self.count.failed} done, {len(self.rows)} running, {self.count.failed} failed"
        note = "  ".join(filter(None, [counts, self.count.left()]))
        if self.overall is not None:
            self.bars.update(self.overall, completed=self.count.ended, note=note)

    def started(self, cell: Cell) -> None:
        """See Progress."""
        self.rows[cell.id] = self.bars.add_task(cell.label, total=None, note="starting")
        self._note()

    def beat(self, cell: Cell, beat: Beat) -> None:
        """See Progress."""
        loss = "" if beat.loss is None else f"  loss {beat.loss:.3g}"
        if cell.id in self.rows:
            note = f"{beat.stage} step {beat.step}{loss}"
            self.bars.update(self.rows[cell.id], total=beat.total, completed=beat.step, note=note)

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """See Progress."""
        self.count.add(record, seconds)
        row = self.rows.pop(cell.id, None)
        if row is not None:
            self.bars.remove_task(row)
        colour = "green" if record.status.done else "red"
        self.bars.console.print(
            f"[{colour}]{record.status:<8}[/] {escape(cell.label)}  [dim]{seconds:.0f} s[/]  ",
            escape(_summary(record)),
            sep="",
        )
        self._note()

    def close(self) -> None:
        """See Progress."""
        self.bars.stop()


def progress_for(console: Console) -> Progress:
    """Bars on a terminal, lines elsewhere."""
    return Terminal(console) if console.is_terminal else Lines(console)
