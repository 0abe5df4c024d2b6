"""What `convert` did, layer by layer: what ran sparse, how fast, and why not."""

from dataclasses import asdict, dataclass, field
from typing import Any

#: backend -> its microseconds, or why it was none
Candidates = dict[str, float | str]
_HEAD: tuple[str, ...] = ("Layer", "Shape", "Rows", "Pattern", "Runs by", "Dense us", "Sparse us", "Ratio", "Why dense")


@dataclass(frozen=True)
class Row:
    """One weight (layers that share it are named together).

    Attributes:
        layers: names of the modules. shape: of the weight. dtype: of the weight.
        rows: rows of the product at each input shape that occurred -> how often in one pass.
        pattern: what the weight keeps to, or "".
        winner: the backend that runs it, or "dense". settings: what that backend was tuned to.
        dense_us, sparse_us: microseconds in one pass over the example inputs, of the dense layer and of the fastest
            sparse candidate; None where nothing was timed. ratio: dense / sparse.
        candidates: backend -> its microseconds, or why it was none.
        reason: why it stays dense, or "". cached: the times are of an equal layer, or of an earlier conversion.
    """

    layers: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    rows: dict[int, int] = field(default_factory=dict)
    pattern: str = ""
    winner: str = "dense"
    settings: dict[str, int] = field(default_factory=dict)
    dense_us: float | None = None
    sparse_us: float | None = None
    candidates: Candidates = field(default_factory=dict)
    reason: str = ""
    cached: bool = False

    @property
    def ratio(self) -> float | None:
        """Dense time / sparse time: above 1 where the sparse layer is faster."""
        return self.dense_us / self.sparse_us if self.dense_us and self.sparse_us else None

    @property
    def sparse(self) -> bool:
        """Does a sparse backend run it?"""
        return self.winner != "dense"

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of the table."""
        return (
            " = ".join(self.layers),
            " x ".join(map(str, self.shape)),
            " + ".join(f"{n} x {rows}" if n > 1 else str(rows) for rows, n in self.rows.items()),
            self.pattern,
            self.winner,
            _number(self.dense_us, 1),
            _number(self.sparse_us, 1),
            _number(self.ratio, 2),
            self.reason,
        )


@dataclass(frozen=True)
class Report:
    """rows: every linear and convolution weight in the model's order. notes: what else is to be said.

    machine: GPU and versions that the times are of; fingerprint: the same in a few letters. launch: "eager" or "graph",
    how they were taken.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    machine: dict[str, Any]
    fingerprint: str
    launch: str

    @property
    def sparse(self) -> tuple[Row, ...]:
        """The rows that a sparse backend runs."""
        return tuple(row for row in self.rows if row.sparse)

    @property
    def summary(self) -> str:
        """One line: how many layers run sparse, and on what."""
        by = {name: sum(row.winner == name for row in self.rows) for name in sorted({r.winner for r in self.sparse})}
        split = f" ({', '.join(f'{name} {count}' for name, count in by.items())})" if by else ""
        return f"{len(self.sparse)} of {len(self.rows)} weights run sparse{split} on {self.machine['device']}"

    @property
    def choices(self) -> dict[str, dict[str, Any]]:
        """Module name -> backend, pattern and settings of each sparse layer, as `apply_choices` takes it (JSON)."""
        return {
            name: {
                "backend": row.winner,
                "pattern": row.pattern,
                "settings": dict(row.settings),
                "tuned_on": self.fingerprint,
            }
            for row in self.sparse
            for name in row.layers
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        rows = [{**asdict(row), "ratio": row.ratio} for row in self.rows]
        for row in rows:
            row["layers"], row["shape"] = list(row["layers"]), list(row["shape"])
            row["rows"] = {str(number): count for number, count in row["rows"].items()}
        notes = list(self.notes)
        return {"summary": self.summary, "machine": self.machine, "launch": self.launch, "rows": rows, "notes": notes}

    def to_markdown(self) -> str:
        """Summary, table and notes."""
        from nmbench.document.markdown import grid

        rows = [[cell.replace("|", "\\|") for cell in row.cells()] for row in self.rows]
        table = grid(_HEAD, rows, "llrllrrrl")
        return "\n\n".join([self.summary + ".", table, *(f"- {note}" for note in self.notes)]) + "\n"

    def table(self) -> str:
        """The same for a terminal: aligned columns; those that are empty throughout are left out."""
        lines = [_HEAD, *(row.cells() for row in self.rows)]
        kept = [i for i in range(len(_HEAD)) if i == 0 or any(line[i] for line in lines[1:])]
        width = {i: max(len(line[i]) for line in lines) for i in kept}
        text = ["  ".join(line[i].ljust(width[i]) for i in kept).rstrip() for line in lines]
        return "\n".join([*text, "", self.summary, *self.notes])

    def __str__(self) -> str:
        """The table: `print(report)`."""
        return self.table()


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
