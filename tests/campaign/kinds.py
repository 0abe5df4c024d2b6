"""Every way in which a task can misbehave: is its cell told by the right kind, and do the others go on?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.campaign import ends
from tests.campaign.warm import PLUGINS, Command

RIGHT = {
    "ok": " thread fork fork-setsid ignore-sigterm rm-work text-surrogate print-bytes fact-np note-obj count-np lr-inf"
    " stdout-flood",
    "nan": "nan inf",
    "crash": "exit0 segv kill abrt print-home-crash oneline-crash stdout-flood-crash",
    "hang": "stop eval-loop",
    "timeout": "prepare-hang",
    "oom": "mem-torch mem-numpy mem-bytes mem-mmap mem-thread mem-fork mem-loader mem-cuda",
    "data": "surrogate",
    "interrupted": "kbd",
    "invalid": "eval-str eval-none baseline-nan fact-nan per-example-nan sample-bad",
    "error": "sysexit huge-message deep-tb bad-str multi-line-token abs-path genexit eio enospc long-line cwd-gone",
}
EXPECTED = {fail: kind for kind, fails in RIGHT.items() for fail in fails.split(" ")}
_SLOW = ("stop", "eval-loop", "prepare-hang", "stdout-flood", "mem-")
_HANG, _TIMEOUT = 12, 40  # seconds
_SECRETS = ("ghp_SECRETTOKEN123", "AKIAXYZ", "/mnt/projects/alice", "alice:")


def all_of_them(scratch: Path, short: bool) -> tuple[dict[str, Any], list[str]]:
    """One matrix with a cell for each; in short those that take no time."""
    fails = [fail for fail in EXPECTED if not (short and fail.startswith(_SLOW))]
    if short:
        fails = fails[::6]
    folder = ends.project(scratch / "kinds-0", "sr-ste")
    quoted = ", ".join(f'"{fail}"' for fail in fails)
    text = (
        (folder / "m.toml")
        .read_text()
        .replace("steps = 24, pause = 0.02", f"steps = 10, pause = 0.0, fail = [{quoted}]")
    )
    (folder / "m.toml").write_text(text)
    limits = ("--hang", str(_HANG), "--timeout", str(_TIMEOUT), "--only", "dense")
    command = Command(folder, "run", "m.toml", "--plugins", str(PLUGINS), "--workers", "1", "--device", "cpu", *limits)
    command.wait(len(fails) * (_TIMEOUT + 20))
    wrong = ["the matrix did not go on: " + command.said[-300:]] if command.returncode not in (0, 1) else []
    found = {record["cell"]["train"].get("fail", ""): record for record in ends.records(folder).values() if record}
    for fail in fails:
        if fail not in found:
            wrong.append(f"{fail}: no record")
        elif (status := found[fail]["status"]) != EXPECTED[fail]:
            wrong.append(f"{fail}: {status} instead of {EXPECTED[fail]}: {found[fail].get('error')}"[:300])
    told = "".join(path.read_text() for path in ends.records(folder))
    wrong += [f"a record tells {secret}" for secret in _SECRETS if secret in told]
    return {"what": "kinds", "inputs": len(fails)}, wrong
