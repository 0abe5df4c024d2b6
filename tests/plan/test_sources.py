"""What trains is what is hashed: a reworded report keeps all results fresh, a changed worker or task does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nmbench

TASK = "mine:Mine"
METHOD = "own_method:Own"
REFERENCES = (TASK, METHOD, "nmbench.sparsity.methods.asp:ASP")
ASK = f"from nmbench.plan.sources import core_hash, plugin_hash; print(core_hash(), *map(plugin_hash, {REFERENCES}))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nmbench's sources, a task package and a method, of which a test may change any file."""
    folder = tmp_path_factory.mktemp("site")
    source = Path(nmbench.__file__).parent
    shutil.copytree(source, folder / "nmbench", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").write_text("from nmbench.task import Task\n")
    (folder / "mine" / "data.py").write_text("")
    (folder / "own_method.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def before(site: Path) -> list[str]:
    return hashes(site)


def hashes(site: Path) -> list[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True, cwd=site)
    return done.stdout.rstrip("\n").split(" ")


def changed(site: Path, before: list[str], *names: str) -> list[bool]:
    """Whether core, task and method are others once these files are."""
    files = {site / name: (site / name).read_text() for name in names}
    for file, text in files.items():
        file.write_text(text + "\n# reworded\n")
    after = hashes(site)
    for file, text in files.items():
        file.write_text(text)
    assert after[3:] == [""], "a method of the core has no part of its own"
    return [a != b for a, b in zip(before, after, strict=True)][:3]


def test_what_no_cell_executes_leaves_it_alone(site, before):
    folders = ("report", "analysis", "claims", "document", "cli", "sinks", "kernels", "testing", "scaffold")
    files = [str(p.relative_to(site)) for name in folders for p in (site / "nmbench" / name).rglob("*.py")]
    files += [f"nmbench/running/{name}.py" for name in ("scheduler", "local", "progress")]
    assert len(files) > 100
    assert changed(site, before, *files) == [False, False, False]


@pytest.mark.parametrize(
    "name",
    ["_util/random.py", "sparsity/mask.py", "sparsity/handle.py", "sparsity/fast/nm.c", "sparsity/methods/sr_ste.py",
     "contract/run.py", "plan/cell.py", "records/weights.py", "worker/measure.py"],
)  # fmt: skip
def test_what_a_cell_executes_changes_the_core(site, before, name):
    assert changed(site, before, f"nmbench/{name}") == [True, False, False]


def test_a_plugin_is_its_package_and_what_that_imports_of_its_own(site, before):
    assert changed(site, before, "mine/data.py") == [False, True, False]
    assert changed(site, before, "own_method.py") == [False, False, True]


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: text.replace("task", "tusk"), lambda text: text[:-9]])
def test_kept_import_statements_that_are_damaged_are_read_anew(site, before, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path))
    assert hashes(site) == before
    [kept] = tmp_path.glob("imports-*.json")
    assert hashes(site) == before
    kept.write_text(damage(kept.read_text()))
    assert hashes(site) == before
