"""The worker process: the only place that imports tasks.

python -m nmbench.worker --describe REFERENCE     declarations of a task, as JSON
python -m nmbench.worker --describe-methods       declarations of all methods
python -m nmbench.worker --diagnose REFERENCE     what a task says of this installation, as JSON
python -m nmbench.worker --prepare JSON           make or verify a task's data, and print its DataInfo
python -m nmbench.worker --job FILE               run one cell and write its record
python -m nmbench.worker --speed JSON             time the model that a finished cell left (nmbench.running.speed)
python -m nmbench.worker --speeds JSON            the same in brief of several cells, one after the other
python -m nmbench.worker --convert JSON           write a finished model that runs sparse (nmbench.running.deploy)
python -m nmbench.worker --export JSON            write a finished model for other programs
python -m nmbench.worker --rank FILE PARENT       train it as another rank of that worker (nmbench.worker.ranks)
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmbench._util.child import answer, die_with_parent
from nmbench._util.log import set_up


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit status is 0 whenever an answer or a record was written."""
    verb, *rest = arguments
    set_up()
    if verb not in ("--job", "--rank"):
        die_with_parent()
        answer(_asked(verb, *rest))
        return 0
    from nmbench.running.job import NO_ROOM, TrainingJob
    from nmbench.running.room import lacked_room
    from nmbench.running.stops import listen, raise_stopped
    from nmbench.worker.cell import execute, execute_rank

    file = Path(rest[0])
    job = TrainingJob.model_validate_json(file.read_bytes())
    die_with_parent(int(rest[1]) if verb == "--rank" else job.parent)
    listen(raise_stopped)
    if verb == "--rank":
        return execute_rank(job)
    try:
        execute(job, file)
    except OSError as error:
        if not lacked_room(error):
            raise
        os._exit(NO_ROOM)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the record is the end: a thread or an exit handler of some library would hold the slot


def _asked(verb: str, *rest: str) -> Mapping[str, Any]:
    """What `nmbench._util.child.ask` gets."""
    if verb == "--describe":
        from nmbench.plan.describe import describe_task

        return describe_task(rest[0])
    if verb == "--describe-methods":
        from nmbench.plan.describe import describe_methods

        return describe_methods()
    if verb == "--diagnose":
        from nmbench.plan.describe import diagnose_task

        return diagnose_task(rest[0])
    from nmbench.running.job import ConvertJob, ExportJob, Job, SpeedJob

    if verb == "--prepare":
        from nmbench.worker.cell import prepare

        return prepare(Job.model_validate_json(rest[0])).model_dump(mode="json")
    if verb in ("--convert", "--export"):
        from nmbench.worker import deploy

        if verb == "--convert":
            return deploy.answer(ConvertJob.model_validate_json(rest[0])).model_dump(mode="json")
        return deploy.answer(ExportJob.model_validate_json(rest[0])).model_dump(mode="json")
    from nmbench.worker import speed

    if verb == "--speeds":
        for fields in json.loads(rest[0]):
            job = SpeedJob.model_validate(fields)
            found = speed.answer(job).model_copy(update={"cell": job.cell.id})
            answer(found.model_dump(mode="json", exclude_unset=True))
        return {}
    told = speed.answer(
        SpeedJob.model_validate_json(rest[0]), lambda so_far: answer(so_far.model_dump(mode="json", exclude_unset=True))
    )
    return told.model_dump(mode="json", exclude_unset=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
