"""A finished model written to a file, converted or for other programs, by a process that imports the task."""

from pydantic import BaseModel, ValidationError

from nmbench._util import child
from nmbench._util.errors import UsageError
from nmbench.running.job import ConvertJob, ExportJob


class Answer(BaseModel):
    """What is to be printed, or why nothing was written."""

    text: str = ""
    failed: str = ""


def ask(job: ConvertJob | ExportJob) -> str:
    """Have the job done; what there is to print. Raises UsageError with the reason where nothing was written."""
    verb = "--convert" if isinstance(job, ConvertJob) else "--export"
    environment = {"CUDA_VISIBLE_DEVICES": ""} if job.device == "cpu" else {}
    reply = child.ask("nmbench.worker", verb, job.model_dump_json(), environment=environment)
    for fields in reversed(reply.answers):  # a model may print objects of its own
        try:
            answer = Answer.model_validate(fields)
        except ValidationError:
            continue
        if answer.failed:
            raise UsageError(answer.failed)
        if answer.text:
            return answer.text
    raise UsageError(f"nothing was written: {reply.ending}")
