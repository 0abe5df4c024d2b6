"""The process of one sink: `python -m nmbench.sinks NAME FOLDER MATRIX`, with one path of a record a line on stdin.

What the sink prints goes to FOLDER/sink.log. At the end a line of JSON goes to the real stdout: {"written": attempts},
with "error" where the sink failed. It ends when stdin does, so that nothing is left behind by a parent that was killed.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from nmbench.records.attempt import read_record
from nmbench.records.schema import UnreadableRecord
from nmbench.sinks.base import MissingPackage, load
from nmbench.sinks.finished import finished


def _redirect(folder: Path) -> int:
    """Send both outputs to the log, or to nowhere if there can be none; the real stdout."""
    kept = os.dup(1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "sink.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return kept


def serve(name: str, folder: Path, matrix: str) -> dict[str, object]:
    """Feed one sink until stdin ends. Never raises."""
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sink = load(name)
        sink.open(folder, matrix)
        for line in sys.stdin:
            try:
                record = read_record(Path(line.rstrip("\n")))
            except UnreadableRecord:
                continue  # the report lists it
            sink.write(finished(record))
            written += 1
        sink.close()
    except MissingPackage as error:
        return {"written": written, "error": str(error)}
    except BaseException as error:  # a stranger's library may raise anything, SystemExit too
        traceback.print_exc()
        text = " ".join(str(error).split())
        return {"written": written, "error": f"{type(error).__name__}: {text[:300]}".rstrip(": ")}
    return {"written": written}


if __name__ == "__main__":
    real = _redirect(Path(sys.argv[2]))
    outcome = serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    os.write(real, json.dumps(outcome).encode() + b"\n")
    # threads that a library left running must not hold the process up
    sys.stdout.flush()
    os._exit("error" in outcome)
