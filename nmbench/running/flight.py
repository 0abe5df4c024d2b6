"""Tickets of a matrix: what they are called, which cells they hold, and the command that runs these on a node."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nmbench._util.errors import UsageError
from nmbench._util.files import discard, loads, write_json
from nmbench.engines.engine import Engine, Needs, Phase, Unreachable
from nmbench.plan.catalogue import Catalogue
from nmbench.plan.cell import Cell
from nmbench.records.attempt import number_of, record_of
from nmbench.records.store import Store
from nmbench.running.order import ranks


@dataclass(frozen=True)
class Terms:
    """How cells are sent out.

    command: runs the matrix on a node; `--cell` is added. workers: tickets at a time, 0: any number. pack: cells in one
    ticket. again: also cells that are done. cpus: of a rank. gpus: does each rank get a GPU? minutes: that a cell may
    take. exclusive: each ticket has a node to itself. settle_s: after a ticket is
    gone, how long its record may take to be seen here (a shared folder that shows new files late). poll_s: between two
    questions to the engine while nothing happens.
    """

    command: tuple[str, ...]
    workers: int = 0
    pack: int = 1
    again: bool = False
    cpus: int = 1
    gpus: bool = False
    minutes: float | None = None
    exclusive: bool = False
    settle_s: float = 60.0
    poll_s: float = 10.0


@dataclass
class Flight:
    """A ticket that was submitted.

    cells: those of it that have not ended. ended: the attempt of each up to which records are of earlier tickets.
    """

    name: str
    handle: str
    cells: dict[str, Cell] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    phase: Phase = Phase.WAITING
    gone_since: float | None = None
    begun: dict[str, float] = field(default_factory=dict)  # monotonic, of the cells that were seen to run

    def take(self, cells: Iterable[Cell], ended: Mapping[str, int]) -> None:
        """It holds these too."""
        self.cells |= {cell.id: cell for cell in cells}
        self.ended |= ended


def last_ended(store: Store, cell: Cell) -> int:
    """Number of the newest attempt that has ended; 0: none has. What comes after it is a ticket's doing."""
    ended = (path for path in reversed(store.attempts(cell)) if record_of(path) is not None)
    return number_of(next(ended, Path("attempt-0"))) or 0


class Tickets:
    """Names, notes and needs of the tickets of one store. Notes lie beside the resume state, not with the results."""

    def __init__(self, store: Store, catalogue: Catalogue, terms: Terms, alone: frozenset[str]) -> None:
        self.store, self.catalogue, self.terms, self.alone = store, catalogue, terms, alone
        self.folder = tickets_folder(store)

    @property
    def prefix(self) -> str:
        """What all of their names begin with."""
        return prefix(self.store)

    def name(self, cells: Iterable[Cell]) -> str:
        """The same cells have the same name, whoever asks."""
        first, *others = [cell.id for cell in cells]
        pack = hashlib.sha256(",".join([first, *others]).encode()).hexdigest()
        return self.prefix + (f"p{pack[:15]}" if others else first)

    def kind(self, cell: Cell) -> tuple[str, int, bool]:
        """Cells of one kind may share a ticket."""
        return cell.task, ranks(cell, self.catalogue.tasks[cell.task]), cell.id in self.alone

    def needs(self, cells: list[Cell]) -> Needs:
        """Of a ticket with these cells, which are of one kind and run one after the other."""
        _, size, alone = self.kind(cells[0])
        minutes = None if self.terms.minutes is None else math.ceil(self.terms.minutes * len(cells))
        return Needs(self.terms.cpus * size, size if self.terms.gpus else 0, minutes, alone or self.terms.exclusive)

    def command(self, cells: list[Cell], code: Callable[[Cell], str], ended: Mapping[str, int]) -> tuple[str, ...]:
        """Runs the cells on a node, and there only those that nobody has finished meanwhile."""
        needs = self.needs(cells)
        given = [*self.terms.command, "--cpus", str(needs.cpus)] + ["--exclusive"] * needs.exclusive
        for cell in cells:
            given += ["--cell", f"{cell.id}@{code(cell)}" + (f"@{ended[cell.id]}" if self.terms.again else "")]
        return tuple(given)

    def log(self, name: str) -> Path:
        """What the ticket's command prints."""
        return (self.folder / f"{name}.log").absolute()

    def note(self, name: str, engine: str, cells: Iterable[Cell]) -> None:
        """Write down what the ticket is about to hold. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{name}.json", {"engine": engine, "cells": [cell.id for cell in cells]}, indent=None)


def prefix(store: Store) -> str:
    """Of the names of all tickets of a matrix; those of another results folder have another."""
    place = hashlib.sha256(os.path.abspath(store.root).encode()).hexdigest()[:4]
    return f"nm-{store.matrix}-{place}-"


def tickets_folder(store: Store) -> Path:
    """Notes and logs of the tickets of a matrix."""
    return store.work / "tickets"


def logs_of(store: Store, cell: Cell) -> list[Path]:
    """Logs of tickets that held the cell, that of a pack included while it is noted."""
    names = [prefix(store) + cell.id, *(name for name, (_, cells) in noted(store).items() if cell.id in cells)]
    files = [tickets_folder(store) / f"{name}.log" for name in dict.fromkeys(names)]
    return [file for file in files if file.exists()]


def forget(store: Store, name: str) -> None:
    """The ticket is gone."""
    discard(tickets_folder(store) / f"{name}.json")


def noted(store: Store) -> dict[str, tuple[str, list[str]]]:
    """Name of each ticket that was noted -> its engine, ids of its cells."""
    found = {}
    folder = tickets_folder(store)
    for name in os.listdir(folder) if folder.is_dir() else []:
        if name.endswith(".json"):
            try:
                note = loads((folder / name).read_bytes())
                found[name.removesuffix(".json")] = str(note["engine"]), [str(text) for text in note["cells"]]
            except (OSError, ValueError, KeyError, TypeError):  # removed meanwhile
                continue
    return found


def drop(store: Store, engine: Engine, prefix: str) -> int:
    """Cancel all tickets of a matrix, whoever submitted them; how many there were. Raises UsageError."""
    try:
        handles = engine.known(prefix)
        engine.cancel(list(handles.values()))
    except Unreachable as error:
        raise UsageError(f"{engine.name} does not answer: {error}") from None
    for name, (of, _) in noted(store).items():
        if of == engine.name:
            forget(store, name)
    return len(handles)
