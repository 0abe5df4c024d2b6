"""What a training step costs against that of the dense twin, from records: `step_ratio`."""

from __future__ import annotations

import statistics

from nmbench.analysis.pairs import matched
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.records.schema import Record


def step_ratio(study: Study, row: Row) -> float | None:
    """Median time of an optimizer step over the dense twin's, mean over the seeds; None where none may be compared.

    Both ran alone, in one go and on the same hardware. Where the first pass is that of the twin, the steps are those of
    the second.
    """
    dense = next((one for one in study.settings[row.setting] if one.is_dense and one.seeds), None)
    if dense is None:
        return None
    pairs = matched(row, dense, study.loaded)
    both = list(zip(pairs.first, pairs.second, strict=True))
    ratios = [_step(cell) / _step(twin) for cell, twin in both if _comparable(cell, twin)]
    return statistics.fmean(ratios) if ratios else None


def _step(record: Record) -> float:
    return (record.timings and record.timings.step_ms_median) or 0.0


def _comparable(cell: Record, twin: Record) -> bool:
    alone = all(one.timings and one.timings.alone and not one.timings.resumed and _step(one) for one in (cell, twin))
    places = [(one.environment and (one.environment.cpu, one.environment.gpu)) for one in (cell, twin)]
    return bool(alone) and places[0] == places[1]
