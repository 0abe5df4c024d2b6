"""The site builds without a warning, links and anchors checked, and is complete."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    return out


def text(page: Path) -> str:
    return re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8"))


def test_every_page_is_there(site):
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).exists()
    for readme in ROOT.glob("tasks/*/README.md"):
        assert (site / "tasks" / f"{readme.parent.name}.html").exists()


def test_nothing_is_fetched_from_elsewhere(site):
    tag = re.compile(r"""<(?:script|img|iframe|link)[^>]*(?:src|href)=["']?(?:https?:)?//[^>]*>""")
    for page in site.rglob("*.html"):
        assert tag.findall(page.read_text(encoding="utf-8")) == [], page


def test_the_reference_says_what_the_code_says(site):
    from nmbench.cli import app
    from nmbench.plan.matrix import Grid, Matrix
    from nmbench.records.schema import Status
    from nmbench.sparsity import methods
    from nmbench.task import Task

    pages = {page.stem: text(page) for page in (site / "reference").glob("*.html")}
    for name in (command.name for command in app.registered_commands):
        assert f"Usage: nmbench {name}" in pages["cli"]
    for name in (*Matrix.model_fields, *Grid.model_fields):
        assert name in pages["matrix"]
    assert all(status in pages["record"] for status in Status)
    assert all(name in pages["methods"] for name in ("asp", "sr-ste", *methods.load("sr-ste").declared().defaults))
    for name in ("default_models", "expected_failures", *(part for part in vars(Task) if not part.startswith("_"))):
        assert name in pages["contract"]


def test_the_example_of_a_matrix_has_every_key():
    from nmbench.plan.matrix import Grid, Matrix

    source = (DOCS / "reference" / "matrix.md").read_text(encoding="utf-8")
    example = re.search(r'"""\n(.*?)"""', source, re.DOTALL)[1].replace("# init", "init")
    told = tomllib.loads(example)
    assert set(told) == set(Matrix.model_fields)
    assert set().union(*told["grid"]) == set(Grid.model_fields)


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[gone](#gone)", "gone"),
        ("![gone](gone.png)", "gone.png"),
        ("<!-- generated: gone -->", "no generated part 'gone'"),
    ],
)
def test_what_is_broken_is_told(tmp_path, page, complaint):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{page}\n")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    validation = settings[settings.index("validation:") :]
    hooks = f"hooks: [{DOCS / 'hooks.py'}]\n"
    (tmp_path / "mkdocs.yml").write_text(f"site_name: broken\n{hooks}plugins: []\n{validation}")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert complaint in done.stderr
