"""What a person sees while a matrix runs: bars on a terminal, one line an event elsewhere."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from nmbench.plan.cell import Cell
from nmbench.records.schema import Record
from nmbench.running.job import Beat


class Progress:
    """Counts cells; subclasses show them."""

    def __init__(self) -> None:
        self.total = self.ended_so_far = self.failed = self.workers = 0
        self._seconds: list[float] = []

    def begin(self, total: int, workers: int, threads: int) -> None:
        """Cells will run, so many at a time, with so many threads each."""
        self.total, self.workers = total, workers

    def started(self, cell: Cell) -> None:
        """A worker took the cell."""

    def beat(self, cell: Cell, beat: Beat) -> None:
        """What the worker told last."""

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """The cell has a record."""
        self.ended_so_far += 1
        self.failed += record.status.failed
        if seconds > 0:
            self._seconds.append(seconds)

    def waits(self, why: str) -> None:
        """No cell starts for now."""

    def tell(self, text: str) -> None:
        """Something that is worth a line."""

    def close(self) -> None:
        """No more cells."""

    def left(self) -> str:
        """Time left in words; empty before the first cell has ended."""
        remaining = self.total - self.ended_so_far
        if not self._seconds or remaining <= 0:
            return ""
        guess = sum(self._seconds) / len(self._seconds) * remaining / max(1, self.workers)
        return f"about {guess / 60:.0f} min left" if guess >= 90 else f"about {guess:.0f} s left"


def _summary(record: Record) -> str:
    if record.status.failed:
        return (record.error and record.error.message) or ""
    if record.primary is None or record.primary_value is None:
        return ""
    return f"{record.primary.name} {record.primary_value:.4g} {record.primary.unit}".rstrip()


class Lines(Progress):
    """Plain lines; a log does not show every beat."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, total: int, workers: int, threads: int) -> None:
        """See Progress."""
        super().begin(total, workers, threads)
        self._say(f"{total} cells to run, {workers} at a time, {threads} threads each")

    def started(self, cell: Cell) -> None:
        """See Progress."""
        self._say(f"start  {cell.label}")

    def waits(self, why: str) -> None:
        """See Progress."""
        self._say(f"wait   {why}")

    def tell(self, text: str) -> None:
        """See Progress."""
        self._say(text)

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """See Progress."""
        super().ended(cell, record, seconds)
        head = f"[{self.ended_so_far}/{self.total}] {record.status}"
        self._say("  ".join(filter(None, [head, cell.label, f"{seconds:.0f} s", _summary(record), self.left()])))


class Terminal(Progress):
    """Bars: one for the matrix, one for each running cell; ended cells scroll away above them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}")]
        self.bars = Bars(*columns, TimeElapsedColumn(), console=console)
        self.overall = self.bars.add_task("[bold]matrix", note="")
        self.rows: dict[str, TaskID] = {}

    def begin(self, total: int, workers: int, threads: int) -> None:
        """See Progress."""
        super().begin(total, workers, threads)
        self.bars.start()
        self._note()

    def _note(self) -> None:
        done = self.ended_so_far - self.failed
        counts = f"{done} done, {len(self.rows)} running, {self.failed} failed"
        note = "  ".join(filter(None, [counts, self.left()]))
        self.bars.update(self.overall, total=self.total, completed=self.ended_so_far, note=note)

    def started(self, cell: Cell) -> None:
        """See Progress."""
        self.rows[cell.id] = self.bars.add_task(cell.label, total=None, note="starting")
        self._note()

    def waits(self, why: str) -> None:
        """See Progress."""
        self.bars.console.print("[yellow]wait[/]     ", escape(why), sep="")

    def tell(self, text: str) -> None:
        """See Progress."""
        self.bars.console.print(escape(text))

    def beat(self, cell: Cell, beat: Beat) -> None:
        """See Progress."""
        loss = "" if beat.loss is None else f"  loss {beat.loss:.3g}"
        if cell.id in self.rows:
            note = f"{beat.stage} step {beat.step}{loss}"
            self.bars.update(self.rows[cell.id], total=beat.total, completed=beat.step, note=note)

    def ended(self, cell: Cell, record: Record, seconds: float) -> None:
        """See Progress."""
        super().ended(cell, record, seconds)
        if (row := self.rows.pop(cell.id, None)) is not None:
            self.bars.remove_task(row)
        colour = "green" if record.status.done else "red"
        head = f"[{colour}]{record.status:<8}[/] {escape(cell.label)}  [dim]{seconds:.0f} s[/]  "
        self.bars.console.print(head, escape(_summary(record)), sep="")
        self._note()

    def close(self) -> None:
        """See Progress."""
        self.bars.stop()


def progress_for(console: Console) -> Progress:
    """Bars on a terminal, lines elsewhere."""
    return Terminal(console) if console.is_terminal else Lines(console)
