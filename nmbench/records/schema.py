"""The record of one attempt, and what may stand in it.

`record.json` is written last, by exactly one writer; its existence means that the attempt ended.
A record holds no host name, no user name and no absolute path.

Keys (schema version 1). Those marked * are absent when the attempt did not get that far.
    schema_version   int
    matrix           name of the matrix that ran it
    cell             task model scale train pattern method hyper seed (and `init` when weights were given)
    cell_id          16 hexadecimal digits, a hash of the scientific fields (nmbench.plan.cell)
    attempt          1, 2, ...
    status           one of STATUSES
    metric_info      [{name, unit, higher_is_better, margin}], the primary metric first
    metrics *        {name: value}, evaluated on the finalised weights of the last epoch
    baselines *      {name: {metric: value}}: what a trivial answer reaches, for scale
    facts *          {name: text or number}: how this cell was trained or evaluated (a metric's signature, say)
    audit *          {pattern, ok, density, weights, nonzeros,
                      layers: [{name, shape, role: "sparse"|"dense", reason, density, violations}]}
                     `density` is non-zeros / weights over the sparse layers; dense twins have pattern null
    sad *            {pattern, weights, total, per_layer: {name: flips},
                      step: [..], flips: [..],         flips summed over the steps since the previous entry
                      layers: {step: [..], flips: {name: [..]}},                 the same by layer, at most 32 entries
                      uncounted,                       first steps that were done elsewhere, of which no flips are known
                      snapshots: {steps: [..], consecutive: [..], first_last: int}}   L1 mask distances
    curve *          {phase: [..], step: [..], loss: [..], lr: [..]}   means over bins, at most 512 bins
    cost *           {parameters, nonzeros, macs_dense, macs_effective, bytes_dense, bytes_compressed,
                      training_passes}    MACs for one example; bytes of all parameters
    timings *        {prepare_s, build_s, train_s, evaluate_s, total_s, steps, step_ms_median, resumed, alone}
                     alone: no other cell ran on the machine meanwhile, so that times may be compared
    speed *          {type: "cuda"|"cpu", device, dtype, how, threads,         one forward pass of the evaluated model,
                      rows: [{batch, dense_ms, converted_ms, dense_per_s,      with `nmbench run --speed`; added when
                              converted_per_s, ratio, dense_quartiles_ms,      all cells of the run had ended
                              converted_quartiles_ms}],
                      layers: [{batch, ..}], notes: [text]}   what ran where (kernels.convert.report); device: its name;
                     how: as in nmbench.kernels.timing; ratio: dense_ms / converted_ms; null where nothing was converted
    memory *         {peak_rss_bytes, peak_gpu_bytes}: the most that the process took until training ended; the GPU's
                     is null on a CPU
    reused *         {phase, cell_id, attempt}: the training pass that was taken from another cell, its dense twin
    data *           {fingerprint, counts}
    environment      {python, torch, ..., cpu, cores, threads, gpu, driver, commit, dirty, code} (nmbench._util.machine)
    plugin           {distribution, version, contract}
    command          one line that runs this cell again
    error *          {kind, message, traceback: file name beside the record or null}
    notes *          [text]: what a reader of this cell has to know

Beside it, where the task stored them: `per_example.json` {name: [number]} and `texts.json` {name: [text]}, one value an
evaluation example in data-set order; `samples.json`, a handful of examples to show (nmbench.contract.samples).
"""

from __future__ import annotations

from typing import Any

__all__ = ["FAILED", "SCHEMA_VERSION", "STATUSES", "Record", "UnreadableRecord", "migrate"]

SCHEMA_VERSION = 1

#: how an attempt can end; only `ok` counts as done
STATUSES = (
    "ok",
    "skipped",  # asked not to run here (a missing requirement, a GPU-only setting)
    "import",  # the plugin cannot be imported
    "data",  # data missing or broken
    "oom",  # out of memory
    "nan",  # the loss is not finite
    "diverged",  # finite but hopeless
    "timeout",
    "hang",  # no heartbeat
    "crash",  # the process died (signal, os._exit)
    "error",  # any other exception
    "invalid",  # it ended, but its result breaks a promise (mask violated, a declared metric missing)
    "interrupted",
)
FAILED = frozenset(STATUSES) - {"ok"}

Record = dict[str, Any]


class UnreadableRecord(Exception):
    """A record file that cannot be used; the text says why."""


#: version -> function that lifts a record of that version to the next one
_MIGRATIONS: dict[int, Any] = {}


def migrate(record: Any) -> Record:
    """Lift `record` to the current schema. Raises UnreadableRecord for anything that is no record or is newer."""
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise UnreadableRecord("no schema_version: this is not a record")
    while (version := record["schema_version"]) < SCHEMA_VERSION:
        if version not in _MIGRATIONS:
            raise UnreadableRecord(f"schema version {version} has no migration")
        record = _MIGRATIONS[version](record)
    if version > SCHEMA_VERSION:
        raise UnreadableRecord(f"schema version {version} is newer than this nmbench reads ({SCHEMA_VERSION})")
    for key in ("cell", "cell_id", "status"):
        if key not in record:
            raise UnreadableRecord(f"the key {key!r} is missing")
    if record["status"] not in STATUSES:
        raise UnreadableRecord(f"unknown status {record['status']!r}")
    checked: Record = record
    return checked
