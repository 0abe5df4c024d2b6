"""The fixed columns of the frame: name, pandas dtype, and what stands in it.

COLUMNS      name -> dtype, in the order of the frame; `metric.<name>` columns (float64) follow them
ABOUT        name -> one line of documentation
"""

from __future__ import annotations

__all__ = ["ABOUT", "COLUMNS"]

_DOCUMENTED: dict[str, tuple[str, str]] = {
    "matrix": ("string", "name of the matrix that ran the cell"),
    "task": ("string", "name of the task"),
    "model": ("string", "name of the model"),
    "scale": ("string", "smoke, quick, study, paper or a task's own"),
    "train": ("string", "the engine's settings that are not the scale's own, canonical JSON"),
    "init": ("string", 'hash of the initial weights, "" if none were given'),
    "pattern": ("string", 'N:M pattern, with its axis where it is not "input"; "dense" for the twin'),
    "method": ("string", "name of the method"),
    "hyper": ("string", "the method's settings that are not its defaults, canonical JSON"),
    "seed": ("Int64", "seed of the cell"),
    "cell_id": ("string", "16 hexadecimal digits, a hash of the scientific fields"),
    "attempt": ("Int64", "1, 2, ..."),
    "status": ("string", "how the attempt ended: ok, or one of nmbench.records.schema.STATUSES"),
    "density": ("float64", "non-zeros / weights over the sparse layers"),
    "primary_metric": ("string", "name of the task's first metric"),
    "primary_value": ("float64", "its value, evaluated on the finalised weights of the last epoch"),
    "primary_unit": ("string", "its unit"),
    "higher_is_better": ("boolean", "does a larger primary value mean a better model?"),
    "margin": ("float64", "non-inferiority margin that the task declares, in the primary metric's unit"),
    "sad_pattern": ("string", "pattern of the masks whose flips were counted; a dense twin's are only watched"),
    "sad_total": ("Int64", "mask flips over all steps and layers"),
    "sad_per_weight": ("float64", "mask flips per weight"),
    "sad_uncounted": ("Int64", "first steps that were done elsewhere, of which no flips are known; NA: none"),
    "macs_dense": ("Int64", "multiply-accumulates for one example, dense"),
    "macs_effective": ("Int64", "the same without those of pruned weights"),
    "bytes_dense": ("Int64", "bytes of all parameters, dense"),
    "bytes_compressed": ("Int64", "bytes of all parameters, sparse ones compressed"),
    "parameters": ("Int64", "parameters of the model"),
    "nonzeros": ("Int64", "those that are not zero"),
    "training_passes": ("float64", "how many times the full schedule ran (2 for ASP)"),
    "steps": ("Int64", "optimizer steps over all passes"),
    "train_s": ("float64", "training time of this attempt, seconds"),
    "train_total_s": ("float64", "training time with earlier attempts that it went on from, seconds"),
    "step_ms_median": ("float64", "median time of an optimizer step, milliseconds"),
    "alone": ("boolean", "no other cell ran on the machine meanwhile, so that times may be compared"),
    "resumed": ("boolean", "the attempt went on from an earlier one's checkpoint"),
    "peak_rss_bytes": ("Int64", "the most main memory that the process took until training ended, bytes"),
    "peak_gpu_bytes": ("Int64", "the same of the GPU's memory, bytes; NA on a CPU"),
    "speed_batch": ("Int64", "the largest batch at which one forward pass was timed"),
    "speed_dense_ms": ("float64", "one forward pass of the dense twin's layers at that batch, milliseconds (median)"),
    "speed_converted_ms": ("float64", "the same of the converted model; NA: no sparse backend"),
    "speed_ratio": ("float64", "dense over converted time at that batch"),
    "reused": ("string", "id of the cell whose training pass was taken over; NA: none"),
    "error_kind": ("string", "kind of the failure"),
    "error_message": ("string", "its message"),
    "command": ("string", "one line that runs this cell again"),
    "python": ("string", "version of Python"),
    "torch": ("string", "version of PyTorch"),
    "cpu": ("string", "name of the processor"),
    "gpu": ("string", "name of the GPU; NA: none was used"),
    "commit": ("string", "git commit of nmbench"),
    "dirty": ("boolean", "were there changes beside that commit?"),
    "data_fingerprint": ("string", "hash of the data set's content"),
    "path": ("string", "the attempt's folder, relative to the folder that was loaded"),
}

COLUMNS: dict[str, str] = {name: dtype for name, (dtype, _) in _DOCUMENTED.items()}
ABOUT: dict[str, str] = {name: about for name, (_, about) in _DOCUMENTED.items()}
