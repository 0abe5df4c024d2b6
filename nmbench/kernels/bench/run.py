"""The grid of cells, one after the other, within a time budget."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

import torch

from nmbench._util.errors import UsageError, first_line, nearest
from nmbench._util.machine import describe
from nmbench.kernels import registry
from nmbench.kernels.backend import Backend
from nmbench.kernels.bench import roofline, summary
from nmbench.kernels.bench.cell import measure
from nmbench.kernels.bench.options import Options
from nmbench.kernels.bench.schema import Record
from nmbench.kernels.bench.suites import SUITES, Case, cases

Save = Callable[[Record], None]


def available(names: tuple[str, ...] = ()) -> tuple[dict[str, Backend], dict[str, str]]:
    """(usable ones by name, reason by name of the others); all but `dense`, which is the baseline, unless named.

    Raises UsageError for a name that is not registered.
    """
    installed = registry.backends()
    if unknown := [name for name in names if name not in installed]:
        raise UsageError(f"there is no backend {unknown[0]!r}{nearest(unknown[0], installed)}")
    chosen = {name: installed[name] for name in names or [name for name in installed if name != "dense"]}
    usable = {name: one.backend for name, one in chosen.items() if one.backend is not None}
    return usable, {name: one.reason for name, one in chosen.items() if one.backend is None}


def planned(options: Options) -> list[tuple[Case, str]]:
    """Suites take turns shape by shape, so that a budget that ends early has seen something of each."""
    by_suite = [list(_shapes(suite, options)) for suite in options.suites]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_suite, fillvalue=[]))
    return [(case, dtype) for shape in turns for case in shape for dtype in options.dtypes]


def _shapes(suite: str, options: Options) -> Iterator[list[Case]]:
    """The cases of a suite, those of one shape together: a line of the break-even figure is complete or missing."""
    whole = cases(suite, options.rows, options.batches)
    for _, group in itertools.groupby(whole, key=lambda case: (case.problem.weight, case.problem.stride, case.layer)):
        yield list(group)


def run(
    options: Options,
    device: torch.device,
    backends: Mapping[str, Backend],
    refused: Mapping[str, str] | None = None,
    save: Save = lambda record: None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Record:
    """Measure what the budget allows; the record.

    A failure of the device itself ends the run, in words; a KeyboardInterrupt is raised after `save`.
    """
    begun = time.monotonic()
    grid = planned(options)
    record = _head(options, device, backends, refused or {}, len(grid))
    # cuDNN's own search, which the dense convolutions are entitled to
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=torch.backends.cudnn.allow_tf32):
        limits = None if options.check_only else roofline.measure(device, options.dtypes)
        record["roofline"] = None if limits is None else asdict(limits)
        saved = time.monotonic()
        longest = 0.0
        try:
            for done, (case, dtype) in enumerate(grid):
                started = time.monotonic()
                if options.budget_s is not None and started - begun + longest > options.budget_s and done:
                    break  # the next one may take as long as the longest has
                progress(done, len(grid), f"{case.suite} {case.shape}, {case.problem.rows} rows, {dtype}")
                record["cells"].append(measure(case, dtype, backends, limits, device, options))
                longest = max(longest, time.monotonic() - started)
                if (broken := _broken(device)) is not None:
                    record["notes"].append(f"Stopped: the device failed at {case.shape}, {dtype}: {broken}")
                    break
                if time.monotonic() - saved > 10:
                    save(_finished(record, begun))
                    saved = time.monotonic()
        finally:
            save(_finished(record, begun))
    return record


def _head(
    options: Options, device: torch.device, backends: Mapping[str, Backend], refused: Mapping[str, str], planned: int
) -> Record:
    environment = describe(torch.get_num_threads(), device=device.type)
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else environment["cpu"]
    return {
        "schema_version": 1,
        "kind": "kernels",
        "device": {
            "type": device.type,
            "name": name,
            "capability": list(torch.cuda.get_device_capability(device)) if gpu else None,
            "memory": torch.cuda.get_device_properties(device).total_memory if gpu else None,
        },
        "environment": environment | {"cuda": torch.version.cuda},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "options": options.to_dict(),
        "suites": {name: SUITES[name] for name in options.suites},
        "backends": list(backends),
        "unusable": dict(refused),
        "planned": planned,
        "notes": [],
        "cells": [],
    }


def _finished(record: Record, begun: float) -> Record:
    record["seconds"] = round(time.monotonic() - begun, 1)
    record["summary"] = summary.summary(record["cells"])
    # they are meant for a GPU: a CPU that meets one would say nothing
    gpu = record["device"]["type"] == "cuda" and not record["options"]["check_only"]
    record["targets"] = summary.targets(record["cells"]) if gpu else []
    return record


def _broken(device: torch.device) -> str | None:
    """After an illegal access every later call fails too: nothing measured from then on would mean anything."""
    if device.type != "cuda":
        return None
    try:
        torch.cuda.synchronize(device)
    except Exception as error:
        return first_line(error)
    return None
