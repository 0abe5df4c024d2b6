"""The break-even figure: dense over sparse time against rows, one line a pattern, one panel a dtype."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nmbench.kernels.bench.schema import Cell, Record
from nmbench.kernels.bench.summary import best, geometric_mean

#: rows -> ratio
Line = dict[int, float]


def lines(cells: Sequence[Cell]) -> dict[str, dict[str, tuple[Line, int]]]:
    """Dtype -> pattern -> (rows -> geometric mean of the fastest backend's ratio, number of shapes).

    Linear layers of no model only. A line is over shapes that were measured at every number of rows of it: a mean
    over other shapes at other rows would bend where the shapes change. Where no shape is complete there is no line.
    """
    measured: dict[str, dict[str, dict[tuple[int, ...], Line]]] = {}
    for cell in cells:
        if cell["case"]["kind"] != "linear" or cell["case"]["layer"]:
            continue
        for pattern, one in best(cell).items():
            if "ratio" in one:
                shapes = measured.setdefault(cell["dtype"], {}).setdefault(pattern, {})
                shapes.setdefault(tuple(cell["case"]["weight"]), {})[cell["case"]["rows"]] = one["ratio"]
    return {
        dtype: {pattern: line for pattern, shapes in patterns.items() if (line := _over(shapes))[0]}
        for dtype, patterns in measured.items()
    }


def _over(shapes: Mapping[tuple[int, ...], Line]) -> tuple[Line, int]:
    longest = max((set(line) for line in shapes.values()), key=len)
    whole = [line for line in shapes.values() if set(line) == longest]
    means = {rows: geometric_mean([line[rows] for line in whole]) for rows in sorted(longest)}
    return {rows: mean for rows, mean in means.items() if mean is not None}, len(whole)


def draw(record: Record, stem: Path) -> bool:
    """False, and nothing written, where no line has two points. Raises ImportError without matplotlib or pandas."""
    drawn = {
        dtype: kept
        for dtype, patterns in lines(record["cells"]).items()
        if (kept := {pattern: line for pattern, line in patterns.items() if len(line[0]) > 1})
    }
    if not drawn:
        return False
    from nmbench.report.style import panels, plain_numbers, plain_styles, save, sheet

    names = list(dict.fromkeys(pattern for patterns in drawn.values() for pattern in patterns))
    look = plain_styles(names)
    with sheet():
        figure, axes = panels([_title(dtype, patterns) for dtype, patterns in drawn.items()])
        for axis, patterns in zip(axes, drawn.values(), strict=True):
            for name, (line, _) in patterns.items():
                style = look[name]
                axis.plot(list(line), list(line.values()), linestyle=style.line, label=name, **style.look)
            axis.axhline(1.0, color="black", linewidth=1, label="dense")
            axis.set_xscale("log", base=2, subs=[])
            plain_numbers(axis, "x")
            axis.set_xlabel("rows")
        axes[0].set_ylabel("dense over sparse time")
        figure.suptitle(_where(record), fontsize=9)
        save(figure, axes, stem.with_suffix(".png"))
    return True


def _title(dtype: str, patterns: Mapping[str, tuple[Line, int]]) -> str:
    counts = sorted({count for _, count in patterns.values()})
    shapes = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{dtype}, mean over {shapes} shape{'' if counts[-1] == 1 else 's'}"


def _where(record: Record) -> str:
    device = record["device"]
    return f"{device['name']}" + ("" if device["type"] == "cuda" else " (a CPU: this says nothing of a GPU)")
