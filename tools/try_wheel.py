"""Build the wheel, compare its files with git, install it in a clean environment and run a smoke cell from there.

Run by `make wheel`; it is no pytest file because it installs torch once more, which takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def sh(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """What the command prints; raises CalledProcessError if it fails."""
    print("+", *command, flush=True)
    return subprocess.run(
        [str(c) for c in command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True, env=env
    ).stdout


def expected_files() -> set[str]:
    """What git has below nmbench/ and tasks/, as it must stand in the wheel."""
    tracked = sh("git", "ls-files", "nmbench", "tasks").split()
    endings = {".py", ".c", ".toml", ".j2", ".css", ".js", ".csv", ".json", ".txt", ".mplstyle"}
    shipped = {f for f in tracked if Path(f).suffix in endings or f.endswith("py.typed")}
    return {f.replace("tasks/", "nmbench_tasks/", 1) if f.startswith("tasks/") else f for f in shipped}


def main() -> None:
    """The whole trial, in a temporary folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sh(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist")
        (wheel,) = (folder / "dist").glob("*.whl")
        inside = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
        if inside != expected_files():
            sys.exit(
                f"the wheel and git differ:\n  only in git: {sorted(expected_files() - inside)}\n"
                f"  only in the wheel: {sorted(inside - expected_files())}"
            )
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        sh(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[classification,report]")
        outside = folder / "elsewhere"
        outside.mkdir()
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        nmbench = folder / "env" / "bin" / "nmbench"
        listed = sh(nmbench, "doctor", cwd=outside, env=clean)
        # what this environment lacks is told with the command that adds it, and stops nothing
        for needed in ("detection", "translation"):
            assert f"pip install 'nmbench[{needed}" in listed, listed
        print(sh(nmbench, "run", "smoke", "--only", "classification", "--device", "cpu", cwd=outside, env=clean))
        print(sh(nmbench, "report", "smoke", cwd=outside, env=clean))
        records = [json.loads(p.read_text()) for p in outside.glob("results/smoke/*/*/attempt-1/record.json")]
        assert len(records) == 2, records
        assert all(record["status"] == "ok" for record in records)
        assert (outside / "reports" / "smoke" / "README.md").stat().st_size > 500
        print(f"the wheel holds {len(inside)} files, as git does; its smoke matrix ran and was reported")


if __name__ == "__main__":
    main()
