"""A store, a catalogue of one pretended task, and a driver."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pretended import Node, Pretended

from nmbench._util.settings import Settings
from nmbench.plan.catalogue import Catalogue
from nmbench.plan.cell import Cell
from nmbench.plan.declarations import MethodDeclaration, Plugin, TaskDeclaration
from nmbench.records.store import Store
from nmbench.running.fleet import Fleet
from nmbench.running.flight import Terms
from nmbench.running.order import Options
from nmbench.running.progress import Progress
from nmbench.sparsity.pattern import NMPattern

DENSE = Cell("toy", "mlp", "smoke")
ASP = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "asp")
STE = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "ste")
CELLS = [DENSE, ASP, STE]


@pytest.fixture
def cells() -> list[Cell]:
    return CELLS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", "toys")


@pytest.fixture
def node(store: Store) -> Node:
    return Node(store, CELLS)


class Told(Progress):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def waits(self, why: str) -> None:
        self.lines.append(why)

    def tell(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def fleet(store: Store, told: Told, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fleet]:
    """Makes a driver that hardly waits."""
    monkeypatch.setattr("nmbench.running.fleet._SOON_S", 0.01)
    declared = TaskDeclaration(
        name="toy", metrics=(), models=("mlp",), scales={"smoke": Settings.declared({"gpus": 1})}
    )
    asp = MethodDeclaration(settings=Settings.declared({}), phases=2, starts_dense=True)
    known = Catalogue(
        {"toy": Plugin("toy", "toy:Toy", "toys", "1", declaration=declared)},
        {"asp": Plugin("asp", "asp:ASP", "asps", "1", declaration=asp)},
        [],
    )

    def make(engine: Pretended, **terms: Any) -> Fleet:
        given = Terms(("nmbench", "run", "toys"), settle_s=0.05, poll_s=0.02)
        given = Terms(**{**vars(given), **terms})
        return Fleet(store, known, Options(command="nmbench run toys"), told, engine, given)

    return make
