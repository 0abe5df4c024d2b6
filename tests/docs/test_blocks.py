"""Every `sh` and `python` block of the documentation runs, page by page, and prints what the page shows."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import zygote
from blocks import Reader, blocks, missing

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
#: blocks that may not run: installing nmbench itself, which the tests rely on already
MOST_NOT_RUN = 3
#: and those for what is not here: tests/engines has the same on a Slurm and a Ray of its own
ELSEWHERE = ("it needs a cluster", "it needs a scheduler", "it needs several machines")
LEAST_RUN = 35
#: the page where each command is an interpreter of its own, as a reader's
REAL = {DOCS / "tutorial.md"}


def _name(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


@pytest.fixture(scope="session")
def terminal(tmp_path_factory, data_root, _zygote) -> dict[str, str]:
    """An environment that sees what is installed here, and takes what a page installs, for that page's session only."""
    home = tmp_path_factory.mktemp("terminal")
    venv = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    here = sysconfig.get_paths()["purelib"]
    inside = sysconfig.get_paths("venv", {"base": str(venv), "platbase": str(venv)})
    # addsitedir also reads the .pth files there, with which nmbench itself may be installed
    Path(inside["purelib"], "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    python = f'exec "{inside["scripts"]}/python" -m'
    forked = f"{sys.executable} {zygote.__file__}"
    commands = {
        "nmbench": f'[ "$ZYGOTE" ] || {python} nmbench "$@"\nexec {forked} "$ZYGOTE" nmbench "$@"',
        # all is here, and nothing is to be fetched
        "pip": f'verb="$1"; shift; {python} pip "$verb" -q --no-deps --no-index --no-build-isolation "$@"',
    }
    for name, line in commands.items():
        script = Path(inside["scripts"], name)
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
    own = ("NMBENCH_", "PYTEST_", "COV_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(own) or key == "NMBENCH_CACHE"}
    return {
        **kept,
        "PATH": f"{inside['scripts']}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "200",
        "ZYGOTE": _zygote,
        "PYTHONPATH": inside["purelib"],
        "NMBENCH_DATA": str(data_root),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=_name)
def test_blocks_run(page, terminal, tmp_path):
    reader = Reader(tmp_path, {**terminal, "ZYGOTE": "", "PYTHONPATH": ""} if page in REAL else terminal)
    for block in blocks(page):
        if block.skip:
            continue
        printed = reader.run(block, page)
        lacking = missing(block.output, printed, exact=block.language == "python")
        assert not lacking, f"{page.name}:{block.line} shows {lacking[0]!r}, but this was printed:\n{printed}"


def test_no_block_is_overlooked():
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        fences = [line.strip() for line in lines if line.strip().startswith(("```", "~~~"))]
        assert all(fence in ("```", "```sh", "```python", "```text", "```toml", "```yaml") for fence in fences), page
        opened = sum(fence in ("```sh", "```python") for fence in fences)
        assert len(blocks(page)) == opened, f"{_name(page)}: a block is not at the left margin, or is not closed"


def test_few_blocks_are_not_run():
    every = [block for page in PAGES for block in blocks(page)]
    skipped = [block for block in every if block.skip]
    here = [block.text for block in skipped if block.skip not in ELSEWHERE]
    assert len(here) <= MOST_NOT_RUN, here
    assert len(every) - len(skipped) >= LEAST_RUN
    comments = sum(page.read_text(encoding="utf-8").count("<!-- not run") for page in PAGES)
    assert comments == len(skipped), "a `not run` comment has no reason, or does not stand directly above its block"


@pytest.mark.parametrize(
    ("shown", "real", "exact", "lacking"),
    [
        ("2 cells: 2 ok", "x\n3 cells:  3 ok\n", False, []),
        ("2 cells: 2 ok", "3 cells: 3 ok", True, ["2 cells: 2 ok"]),
        ("a ... c", "a b c", True, []),
        ("a\n...\nb", "a\nx\nb", True, []),
        ("a\nb", "b\na", True, ["b"]),
        ("2 cells: 2 ok", "2 cells: 1 nan", False, ["2 cells: 2 ok"]),
        ("a.c", "abc", True, ["a.c"]),
    ],
)
def test_output_is_compared(shown, real, exact, lacking):
    assert missing(shown, real, exact) == lacking
