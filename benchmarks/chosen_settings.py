"""Which settings a tuning matrix chooses: for each method the trial with the best mean of the primary metric.

    python benchmarks/chosen_settings.py results/methods-tuning

Only seeds that all trials of a method at one pattern have are counted; of equal means the first trial wins, the default
settings being the first. Printed: every trial with its mean and spread, and the winner as `hyper = { ... }`.
A difference to the second that is smaller than the spread is luck, and the line says so; one seed has no spread.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row, compare
from nmbench.records.frame import load


def toml(hyper: str) -> str:
    """Canonical JSON as TOML's inline table."""
    words = ", ".join(f"{key} = {json.dumps(value)}" for key, value in json.loads(hyper).items())
    return f"{{ {words} }}" if words else "{}"


def trials(rows: Sequence[Row]) -> list[tuple[float, float, Row]]:
    """(mean, standard deviation) of each trial on the seeds that all have, the best first."""
    finite = [{seed: v for seed, v in zip(row.seeds, row.values, strict=True) if math.isfinite(v)} for row in rows]
    shared = set.intersection(*map(set, finite))
    if not shared:
        return []
    sign = -1 if rows[0].metric.higher_is_better else 1
    made = []
    for row, values in zip(rows, finite, strict=True):
        own = [values[seed] for seed in sorted(shared)]
        made.append((statistics.fmean(own), statistics.stdev(own) if len(own) > 1 else math.nan, row))
    return sorted(made, key=lambda one: sign * one[0])


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """What is printed."""
    sparse = [row for row in rows if not row.is_dense]
    for (_, pattern, method), own in grouped(((r.setting, r.pattern_text, r.method), r) for r in sparse).items():
        found, lost = trials(own), sum(row.cells - len(row.seeds) for row in own)
        yield f"{method} {pattern}" + (f" ({lost} cells did not end well)" if lost else "")
        for mean, spread, row in found:
            yield f"    {mean:8.3f} ± {spread:.3f} {row.metric.unit}  {len(row.seeds)} seeds  {toml(row.hyper)}"
        if not found:
            yield "    no seed that all trials have"
            continue
        yield f"    -> hyper = {toml(found[0][2].hyper)}{_doubt(found)}"


def _doubt(found: Sequence[tuple[float, float, Row]]) -> str:
    """What the best trial's spread says about its lead."""
    (best, spread, _), *others = found
    if math.isnan(spread):
        return "   # on one seed"
    return "   # within its spread of the second" if others and abs(best - others[0][0]) < spread else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results folder of the matrix")
    print("\n".join(lines(compare(load(parser.parse_args().results).frame))) or "no record of a sparse cell is there")


if __name__ == "__main__":
    main()
