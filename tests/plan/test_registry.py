"""Plugins: a stranger's package takes part; a broken one is a visible row and stops nobody."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from nmbench._util import child
from nmbench._util.child import Reply
from nmbench.plan.catalogue import catalogue
from nmbench.plan.describe import missing_requirements

GOOD = (Path(__file__).parent.parent / "plugins" / "toy.py").read_text()
METRICS = 'metrics = (Metric("a"),); models = ("m",); scales = {"smoke": {}}'
HEAD = "from nmbench.task import Metric, Task\n"
BROKEN = {
    "cannot": ("import nothing_of_that_name", "import", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    "exits": ("import os; os._exit(7)", "import", "importing it failed: its process ended with status 7"),
    "raises": ("raise SystemExit('no')", "import", "SystemExit: no"),
    "mute": (
        "class E(Exception):\n def __str__(self): raise ValueError\nraise E", "import", "E: no message",
    ),
    "notatask": ("class Plugin: pass", "invalid", "'Plugin' is not a subclass of nmbench.task.Task"),
    "nometric": (f'{HEAD}class Plugin(Task): name = "nometric"', "invalid", "it declares no metrics"),
    "misnamed": (f'{HEAD}class Plugin(Task): name = "other"; {METRICS}', "invalid", "its entry point says 'misnamed'"),
    "future": (
        f'{HEAD}class Plugin(Task): name = "future"; contract_version = 99; {METRICS}', "invalid", "for contract 99",
    ),
    "needy": (
        f'{HEAD}class Plugin(Task): name = "needy"; requires = ("no-such-thing>=3",); {METRICS}',
        "unavailable", "needs no-such-thing>=3; pip install 'no-such-thing>=3'",
    ),
    "toy": (f'{HEAD}class Plugin(Task): name = "toy"; {METRICS}', "duplicate", "the name 'toy' is taken by"),
}  # fmt: skip


def _install(site: Path, distribution: str, tasks: dict[str, str]) -> None:
    """A distribution as pip would leave it: modules, METADATA and entry points."""
    lines = []
    for name, source in tasks.items():
        module = f"{distribution}_{name}"
        (site / f"{module}.py").write_text(source)
        attribute = "Toy" if "class Toy" in source else "Plugin"
        lines.append(f"{name} = {module}:{attribute}")
    info = site / f"{distribution}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[nmbench.tasks]\n" + "\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    _install(folder, "aardvark", {"toy": GOOD})
    return folder


def test_a_strangers_package_runs(tmp_path, site, nmbench):
    matrix = 'name = "own"\nscale = "smoke"\ntasks = ["toy"]\n[[grid]]\npattern = "2:4"\n'
    (tmp_path / "own.toml").write_text(matrix)
    done = nmbench("run", "own.toml", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(p.read_text()) for p in tmp_path.glob("results/own/toy/*/attempt-1/record.json")]
    assert [r["status"] for r in records] == ["ok", "ok"]
    assert records[0]["plugin"] == {"distribution": "aardvark", "version": "1.5", "contract": 1}


def test_broken_plugins_are_rows_with_their_reason_and_the_rest_goes_on(tmp_path, site, nmbench):
    _install(site, "broken", {name: source for name, (source, _, _) in BROKEN.items()})
    out = nmbench("doctor", cwd=tmp_path, PYTHONPATH=str(site)).stdout
    lines = {line.split()[1]: line for line in out.splitlines() if "(broken)" in line}
    for name, (_, status, reason) in BROKEN.items():
        assert lines[name].startswith(status), lines[name]
        assert reason in lines[name], lines[name]
    ready = out.splitlines()[-1].removeprefix("tasks").partition(" ready;")[0].strip().split(", ")
    assert {"classification", "toy"} <= set(ready)
    assert not set(ready) & (set(BROKEN) - {"toy"})
    # a matrix with two of them ends with a record for each, and runs the good one
    tasks = '["cannot", "needy", "toy"]'
    (tmp_path / "m.toml").write_text(f'name = "m"\nscale = "smoke"\ntasks = {tasks}\n[[grid]]\npattern = "dense"\n')
    done = nmbench("run", "m.toml", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1, done.stdout + done.stderr
    found = {p.parts[-4]: json.loads(p.read_text()) for p in tmp_path.glob("results/m/*/*/attempt-1/record.json")}
    assert {name: record["status"] for name, record in found.items()} == {
        "cannot": "import",
        "needy": "skipped",
        "toy": "ok",
    }
    assert "pip install 'no-such-thing>=3'" in found["needy"]["error"]["message"]


def test_a_description_is_cached_until_the_source_changes(tmp_path, site, nmbench):
    variables = {"PYTHONPATH": str(site), "NMBENCH_CACHE": str(tmp_path / "cache")}

    def listed() -> dict[Path, int]:
        assert "toy" in nmbench("list", **variables).stdout
        return {p: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "describe").iterdir()}

    cached = listed()
    assert cached
    assert listed() == cached
    source = site / "aardvark_toy.py"
    source.write_text(source.read_text().replace('"wide")', '"wide", "wider")'))
    assert len(set(listed()) - set(cached)) == 1
    assert "wider" in nmbench("list", **variables).stdout


def test_an_import_that_hangs_is_not_waited_for_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    asked = []

    def ask(*arguments: str, **more: object) -> Reply:
        if "slow.py" not in arguments[-1]:
            return child.ask(*arguments, **more)
        asked.append(arguments)
        return Reply([], "it took more than 120 s", late=True)

    monkeypatch.setattr("nmbench.plan.catalogue.ask", ask)
    for _ in range(2):
        plugin = catalogue(tmp_path).tasks["slow"]
        assert plugin.status == "import"
        assert "took more than 120 s" in plugin.reason
    assert len(asked) == 1
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(2000)\n")
    catalogue(tmp_path)
    assert len(asked) == 2, "another source is tried at once"


@pytest.mark.parametrize(
    ("requires", "missing"),
    [
        (("numpy>=1",), []),
        (("no-such-thing>=3 | numpy>=1",), []),
        (("numpy>=1|no-such-thing",), []),
        (("no-such-thing>=3 | neither-this",), ["no-such-thing>=3 or neither-this"]),
        (("numpy>=99 | no-such-thing", "numpy"), [f"numpy>=99 (installed: {version('numpy')}) or no-such-thing"]),
    ],
)
def test_one_of_several_requirements_is_enough(requires, missing):
    assert missing_requirements(requires) == missing


DIAGNOSED = """
from nmbench.task import Diagnosis, Metric, Task

class Sounds(Task):
    name = "sounds"
    metrics = (Metric("a"),)
    models = ("m",)
    scales = {"smoke": {}}
    requires = REQUIRES

    def diagnosis(self):
        yield Diagnosis("ears 2.1")
        BODY
"""


@pytest.mark.parametrize(
    ("requires", "body", "lines"),
    [
        ("()", "", ["engine      sounds: ears 2.1"]),
        ("('no-such-thing',)", "yield Diagnosis('no drum', ok=False)",
         ["engine      sounds: ears 2.1", "faulty      sounds: no drum", "unavailable sounds"]),
        ("()", "raise OSError('deaf')", ["faulty      sounds: its diagnosis failed: OSError: deaf"]),
        ("()", "import os; os._exit(3)", ["faulty      sounds: its diagnosis failed: its process ended with status 3"]),
    ],
)  # fmt: skip
def test_a_task_says_its_own_diagnosis_in_doctor(tmp_path, nmbench, requires, body, lines):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sounds.py").write_text(DIAGNOSED.replace("REQUIRES", requires).replace("BODY", body))
    out = nmbench("doctor", "--plugins", "own", cwd=tmp_path).stdout
    assert [line for line in lines if not any(said.startswith(line) for said in out.splitlines())] == [], out
