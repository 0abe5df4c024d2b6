"""The process of one sink: `python -m nmbench.sinks NAME FOLDER RESULTS ATTEMPT...`; attempts lie below RESULTS.

What the sink prints goes to FOLDER/sink.log. The answer is {"written": attempts}, with "error" where the sink failed.
"""

import os
import sys
import traceback
from pathlib import Path

from nmbench._util.child import answer, die_with_parent
from nmbench.records.attempt import read_record, record_of
from nmbench.records.schema import UnreadableRecord
from nmbench.sinks.base import MissingPackage, load
from nmbench.sinks.finished import finished


def _redirect(folder: Path) -> int:
    """Send both outputs to the log, or to nowhere if there can be none; the real stdout."""
    kept = os.dup(1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "sink.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return kept


def serve(name: str, folder: Path, results: Path, attempts: list[str]) -> dict[str, object]:
    """Write the attempts into one sink. Never raises."""
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sink = load(name)
        sink.open(folder, results.name)
        for attempt in attempts:
            if (file := record_of(results / attempt)) is None:
                continue
            try:
                record = read_record(file)
            except UnreadableRecord:
                continue  # the report lists it
            sink.write(finished(record, results.name, attempt))
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
    die_with_parent()
    stdout = _redirect(Path(sys.argv[2]))
    outcome = serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    sys.stdout.flush()
    os.dup2(stdout, 1)
    answer(outcome)
    # threads that a library left running must not hold the process up
    os._exit("error" in outcome)
