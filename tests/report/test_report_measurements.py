"""Measurements that plugins took of every cell are a table of the report by themselves."""

from __future__ import annotations

from typing import Any

from nmbench.report.sections.measurements import measurements


def taken(name: str, value: float, unit: str = "") -> dict[str, Any]:
    return {"name": name, "unit": unit, "value": value, "source": "a plugin"}


def test_a_table_has_the_mean_of_each_over_the_seeds(results: Any, study: Any) -> None:
    for seed, zeros in enumerate((49.0, 51.0)):
        results.twin(seed, measurements=[taken("zeros", 0.0, "%")])
        results.add(seed=seed, measurements=[taken("zeros", zeros, "%"), taken("largest", 2.5)])
    (table,) = measurements(study(), study().rows)
    assert [(column.key, column.unit) for column in table.columns[2:]] == [("largest", ""), ("zeros", "%")]
    assert [[cell.text for cell in row[2:]] for row in table.rows] == [["-", "0"], ["2.5", "50"]]


def test_without_any_there_is_no_table(results: Any, study: Any) -> None:
    results.twin()
    assert list(measurements(study(), study().rows)) == []
