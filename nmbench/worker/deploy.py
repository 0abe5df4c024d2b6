"""A finished model written to a file: converted, so that it runs sparse here, or for other programs."""

import torch

from nmbench.kernels.conversion.convert import convert
from nmbench.kernels.conversion.rebuild import save_converted
from nmbench.running.deploy import Answer
from nmbench.running.job import ConvertJob, ExportJob
from nmbench.worker import export
from nmbench.worker.failures import first_lines
from nmbench.worker.finished import finished
from nmbench.worker.inference import for_speed, moved
from nmbench.worker.speed import batched


def answer(job: ConvertJob | ExportJob) -> Answer:
    """Do the job."""
    try:
        model, inputs = finished(job, job.weights, job.sha256, pickled=not job.own)
        model.eval()
        if isinstance(job, ExportJob):
            return Answer(text=export.write(model, inputs, job))
        return Answer(text=_converted(model, inputs, job))
    except Exception as error:
        words = first_lines(error)
        return Answer(failed=words.removeprefix("UsageError: ").removeprefix("ValueError: "))


def _converted(model: torch.nn.Module, inputs: tuple[object, ...], job: ConvertJob) -> str:
    """Convert and save; the report, and what was written."""
    device, dtype = torch.device(job.device), getattr(torch, job.dtype)
    dense = sum(tensor.nbytes for tensor in {id(p): p for p in model.parameters()}.values())
    model = model.to(device, dtype)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    given = moved(batched(inputs, job.batch), device, dtype)
    with for_speed():
        made, report = convert(model, given, pattern=job.pattern, limit_s=job.limit_s)
    save_converted(job.out, made)
    size = job.out.stat().st_size
    sizes = f"{size / 1e6:.3g} MB, the dense float32 weights have {dense / 1e6:.3g} MB"
    return (
        f"{job.cell.task}/{job.cell.model}, batch {job.batch}, {job.dtype} on {job.device}\n\n{report.table()}\n\n"
        f"{job.out.name}: {sizes}; nmbench.kernels.load_converted(path, model) reads it"
    )
