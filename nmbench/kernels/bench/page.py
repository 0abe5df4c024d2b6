"""The record as a markdown page: the frame in words, targets, summary, every case, and what did not run."""

from collections.abc import Iterator, Sequence

from nmbench.document.markdown import grid
from nmbench.kernels.bench.schema import Cell, Record, Sparse
from nmbench.kernels.bench.summary import best, failed, refusals


def page(record: Record, figure: bool = False) -> str:
    """figure: is there a break-even figure beside it?"""
    parts = [f"# Sparse products on {record['device']['name']}", *_frame(record)]
    if record["options"]["check_only"]:
        parts += ["## Checked", _checked(record)]
    else:
        if record["targets"]:
            parts += ["## Targets", _targets(record)]
        parts += ["## Geometric means", _summary(record)]
        if figure:
            parts += [
                "## Break-even",
                "![Ratio of dense over sparse time against rows, one line a pattern](break-even.png)",
            ]
        for suite, words in record["suites"].items():
            cells = [cell for cell in record["cells"] if cell["case"]["suite"] == suite]
            parts += [f"## {suite}: {words}", _cells(cells) if cells else "No case was measured."]
    parts += ["## What did not run", _refused(record)]
    return "\n\n".join(parts) + "\n"


def brief(record: Record) -> str:
    """A few lines and one or two tables."""
    if record["options"]["check_only"]:
        return _checked(record)
    device, cells = record["device"], len(record["cells"])
    threads = record["environment"].get("threads", 1)
    where = device["name"] if device["type"] == "cuda" else f"{device['name']} (a CPU), {threads} thread(s)"
    parts = [f"{where}: {cells} of {record['planned']} cells in {record['seconds']:.0f} s", *record["notes"]]
    parts += [_targets(record)] if record["targets"] else []
    return "\n\n".join([*parts, _summary(record)])


# -- the frame --------------------------------------------------------------------------------------------------------
def _frame(record: Record) -> Iterator[str]:
    options, where = record["options"], record["environment"]
    versions = where["versions"]
    software = [f"{name} {versions[name]}" for name in ("torch", "triton", "nmbench") if name in versions]
    if record["device"]["type"] == "cuda":
        software = [f"driver {where['driver']}", f"CUDA {where['cuda']}", *software]
    else:
        yield _on_cpu(record)
    done = "Checked" if options["check_only"] else "Measured"
    yield f"{done} {record['date']} with {', '.join(software)}, in {record['seconds']:.0f} s."
    measured, planned = len(record["cells"]), record["planned"]
    if measured < planned:
        yield f"**{measured} of {planned} cells were reached**; the time budget or a failure ended the run."
    yield from record["notes"]
    if options["check_only"]:
        return
    compiled = "" if options["compiled"] or record["device"]["type"] == "cpu" else " (eager only)"
    turns = "one buffer each, which stays in the cache" if options.get("hot") else (
        "buffers take turns and are together three times the last cache, as far as 512 of them, or as many as the time "
        "allows, reach (`copies` in the record)"
    )  # fmt: skip
    yield (
        f"A ratio is the time of the fastest dense product{compiled} over that of the sparse one, medians of the same "
        "rounds; more than 1 is faster. 16-bit rows are held against the faster of bf16 and fp16, int8 against "
        f"`torch._int_mm`, fp8 against `torch._scaled_mm`. Data are random, dense weights have no zeros; {turns}; "
        "every output was first compared with one in higher precision. "
        "In brackets after a ratio: the larger of two shares, that of the bytes (compressed weight, input, output) at "
        "the measured bandwidth, and that of the dense product's operations at the measured dense rate."
    )
    if limits := record["roofline"]:
        rates = ", ".join(f"{name} {rate / 1e12:.3g} T/s" for name, rate in limits["flops"].items())
        yield (
            f"Measured here: copy {limits['copy'] / 1e9:.4g} GB/s, read {limits['read'] / 1e9:.4g} GB/s, an empty "
            f"kernel {limits['floor_us']:.3g} us; dense operations a second {rates or 'of no dtype'}."
        )


def _on_cpu(record: Record) -> str:
    threads = record["environment"].get("threads", 1)
    if threads == 1:
        clock = "one thread, by the time that it used of the processor, so that other processes' work is not in it"
    else:
        clock = f"{threads} threads, by the clock"
    ways = {way["way"] for cell in record["cells"] for way in cell["dense"] if "us" in way}
    others = [name for name in ("onnxruntime", "openvino") if any(way.startswith(name) for way in ways)]
    beside = f", and those of {' and '.join(others)} where they take the dtype" if others else ""
    dense = f"the fastest of torch's eager product, oneDNN's with a reordered weight{beside}"
    return f"On a CPU with {clock}. Dense is {dense}."


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """The cells are words of anyone's: none of them may end a cell or a line."""
    return grid(headers, [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows], align)


def _targets(record: Record) -> str:
    rows = []
    for one in record["targets"]:
        figure = "not measured" if one["figure"] is None else f"{one['figure']:.3f}"
        met = {None: "-", True: "met", False: "**missed**"}[one["met"]]
        rows.append([one["target"], f"{one['wanted']:g}", figure, str(one["cases"]), met])
    return _table(["Target", "At least", "Measured", "Figures", ""], rows, "lrrrl")


def _summary(record: Record) -> str:
    rows = []
    for row in record["summary"]:
        ratios = [f"{ratio:.3f}" for ratio in (row["ratio"], row["least"], row["most"], row["chosen"])]
        rows.append([row["dtype"], row["kind"], row["pattern"], _band(row["rows"]), str(row["cases"]), *ratios])
    if not rows:
        return "No sparse product was timed beside a dense one."
    headers = ["Dtype", "Kind", "Pattern", "Rows", "Cases", "Geometric mean", "Least", "Most", "Dense as a choice"]
    return _table(headers, rows, "lllrrrrrr")


def _band(rows: Sequence[int | None]) -> str:
    return f"{rows[0]} and more" if rows[1] is None else f"{rows[0]} to {rows[1]}"


# -- the cases --------------------------------------------------------------------------------------------------------
def _cells(cells: Sequence[Cell]) -> str:
    """One line a cell: the best dense time, and the ratio of the fastest backend for each pattern."""
    patterns = list(dict.fromkeys(row["pattern"] for cell in cells for row in cell["sparse"]))
    rows = []
    for cell in cells:
        fastest = best(cell)
        times = {one["way"]: one["us"] for one in cell["dense"] if "us" in one}
        dense = "-" if not times else f"{min(times.values()):.4g} ({min(times, key=lambda way: times[way])})"
        case = cell["case"]
        rows.append([case["shape"], str(case["rows"]), cell["dtype"], dense])
        rows[-1] += [_ratio(fastest[pattern]) if pattern in fastest else "-" for pattern in patterns]
    return _table(["In -> out", "Rows", "Dtype", "Dense us", *patterns], rows, "lrl" + "r" * (1 + len(patterns)))


def _ratio(one: Sparse) -> str:
    """ "1.52 triton, 61 % of the bytes' bound"; the time where there is no dense one."""
    figure = f"{one['ratio']:.3g}" if "ratio" in one else f"{one['us']:.4g} us"
    shares = [share for share in (one.get("share_bytes"), one.get("share_flops")) if share is not None]
    return f"{figure} {one['backend']}" + (f" ({100 * max(shares):.0f} %)" if shares else "")


def _checked(record: Record) -> str:
    rows = []
    for cell in record["cells"]:
        about = [cell["case"]["shape"], str(cell["case"]["rows"]), cell["dtype"]]
        right = [row for row in cell["sparse"] if "refused" not in row]
        rows += [[*about, row["pattern"], row["backend"], f"{row['error']:.2e}"] for row in right]
    headers = ["In -> out", "Rows", "Dtype", "Pattern", "Backend", "Relative error"]
    parts = [_table(headers, rows, "lrlllr")] if rows else []
    faults = [f"- {name}, {dtype}: {why} ({count} times)" for name, dtype, why, count in failed(record["cells"])]
    faults += [f"- {name} cannot be used: {why}" for name, why in record["unusable"].items()]
    return "\n\n".join([*parts, *(["\n".join(faults)] if faults else [])]) or "No backend took any of the cases."


def _refused(record: Record) -> str:
    rows = [[name, "-", reason, "-"] for name, reason in record["unusable"].items()]
    rows += [[name, dtype, reason, str(count)] for name, dtype, reason, count in refusals(record["cells"])]
    headers = ["Backend", "Dtype", "Reason", "Times"]
    return _table(headers, rows, "lllr") if rows else "Everything that was asked for ran."
