"""The columns of the frame: pandas dtype, where in a record each stands, what it means."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from pydantic import BaseModel

from nmbench._util.groups import grouped
from nmbench._util.settings import canonical
from nmbench.records.schema import Record


@dataclass(frozen=True)
class Column:
    """One column. where: attributes of the record, with dots. about: "" where the field there documents it."""

    name: str
    dtype: str
    where: str
    about: str = ""

    @property
    def description(self) -> str:
        """What stands in it, on one line."""
        model: Any = Record
        for part in [] if self.about else self.parts:
            field = model.model_fields[part]
            model = next((kind for kind in get_args(field.annotation) if _is_model(kind)), None)
        return self.about or str(field.description)

    def of(self, record: Record) -> Any:
        """Its value; None where a section on the way is absent."""
        return _at(record, self.parts)

    @cached_property
    def parts(self) -> list[str]:
        """The attributes that lead to it."""
        return self.where.split(".")


def _at(value: Any, attributes: Iterable[str]) -> Any:
    return functools.reduce(lambda held, name: None if held is None else getattr(held, name), attributes, value)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


COLUMNS = {
    column.name: column
    for column in (
        Column("matrix", "string", "matrix"),
        Column("task", "string", "cell.task", "name of the task"),
        Column("model", "string", "cell.model", "name of the model"),
        Column("scale", "string", "cell.scale", "smoke, quick, study, paper or a task's own"),
        Column("train", "string", "cell.train", "the engine's settings that are not the scale's own, canonical JSON"),
        Column("init", "string", "cell.init", 'hash of the initial weights, "" if none were given'),
        Column("pattern", "string", "cell.pattern_text", 'N:M pattern, with its axis if not "input"; or "dense"'),
        Column("method", "string", "cell.method", "name of the method"),
        Column(
            "hyper",
            "string",
            "cell.hyper",
            "settings of the method that are not its defaults, and distill; JSON",
        ),
        Column("seed", "Int64", "cell.seed", "seed of the cell"),
        Column("cell_id", "string", "cell_id"),
        Column("attempt", "Int64", "attempt"),
        Column("status", "string", "status"),
        Column("density", "float64", "audit.density"),
        Column("primary_metric", "string", "primary.name", "name of the task's first metric"),
        Column("primary_value", "float64", "primary_value", "its value, on the finalised weights of the last epoch"),
        Column("primary_unit", "string", "primary.unit", "its unit"),
        Column("higher_is_better", "boolean", "primary.higher_is_better", "does a larger primary value mean better?"),
        Column("margin", "float64", "primary.margin", "its non-inferiority margin, in its unit"),
        Column("sad_pattern", "string", "sad.pattern"),
        Column("sad_total", "Int64", "sad.total"),
        Column("sad_per_weight", "float64", "sad.per_weight", "mask flips per weight"),
        Column("sad_uncounted", "Int64", "sad.uncounted"),
        *(Column(name, "Int64", f"cost.{name}") for name in ("macs_dense", "macs_effective")),
        *(Column(name, "Int64", f"cost.{name}") for name in ("bytes_dense", "bytes_compressed")),
        *(Column(name, "Int64", f"cost.{name}") for name in ("parameters", "nonzeros")),
        Column("training_passes", "float64", "cost.training_passes"),
        Column("steps", "Int64", "timings.steps"),
        Column("train_s", "float64", "timings.train_s"),
        Column("train_total_s", "float64", "timings.train_total_s"),
        Column("step_ms_median", "float64", "timings.step_ms_median"),
        Column("alone", "boolean", "timings.alone"),
        Column("resumed", "boolean", "timings.resumed"),
        Column("peak_rss_bytes", "Int64", "memory.peak_rss_bytes"),
        Column("peak_gpu_bytes", "Int64", "memory.peak_gpu_bytes"),
        Column("method_bytes", "Int64", "memory.method_bytes"),
        Column("speed_batch", "Int64", "speed.largest.batch", "the largest batch at which a forward pass was timed"),
        Column("speed_dense_ms", "float64", "speed.largest.dense_ms", "median time of the dense layers there, ms"),
        Column("speed_converted_ms", "float64", "speed.largest.converted_ms", "the same, converted; NA: no backend"),
        Column("speed_ratio", "float64", "speed.largest.ratio", "dense over converted time at that batch"),
        Column("reused", "string", "reused.cell_id"),
        Column("error_kind", "string", "error.kind"),
        Column("error_message", "string", "error.message"),
        Column("command", "string", "command"),
        Column("python", "string", "environment.python"),
        Column("torch", "string", "environment.torch", "version of PyTorch"),
        Column("cpu", "string", "environment.cpu"),
        Column("gpu", "string", "environment.gpu"),
        Column("commit", "string", "environment.commit"),
        Column("dirty", "boolean", "environment.dirty"),
        Column("data_fingerprint", "string", "data.fingerprint"),
        Column("path", "string", "", "the attempt's folder, relative to the folder that was loaded"),
    )
}
#: attributes that lead to a section -> (column, attribute there) of each column that it fills
_SECTIONS = grouped(
    (tuple(column.parts[:-1]), (name, column.parts[-1])) for name, column in COLUMNS.items() if column.where
)


def row(record: Record, path: str) -> dict[str, Any]:
    """The row of a record; `path` is that of its attempt's folder. Absent values are None."""
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    for section, columns in _SECTIONS.items():
        if (held := _at(record, section)) is not None:
            values |= {name: getattr(held, key) for name, key in columns}
    values["hyper"] = {**values["hyper"], **({"distill": record.cell.distill} if record.cell.distill else {})}
    values |= {key: canonical(values[key]) for key in ("train", "hyper")}
    values |= {"init": values["init"].sha256[:16] if values["init"] else "", "path": path}
    values |= {f"metric.{name}": value for name, value in record.metrics.items()}
    return values | {f"measurement.{one.name}": one.value for one in record.measurements}
