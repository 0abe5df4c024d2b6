"""`nmbench kernels`: the sparse backends against the best dense products, on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmbench._util.errors import UsageError

if TYPE_CHECKING:
    from nmbench.kernels.backend import Backend
    from nmbench.kernels.bench.options import Options
    from nmbench.kernels.bench.schema import Record


def kernels(
    suite: Annotated[list[str] | None, typer.Option(help="A suite of shapes, again for more; all by default.")] = None,
    patterns: Annotated[str | None, typer.Option(help="2:4,1:4,... instead of the default ones.")] = None,
    dtypes: Annotated[str | None, typer.Option(help="Of bf16,fp16,fp32,int8,fp8.")] = None,
    rows: Annotated[str | None, typer.Option(help="Rows of the linear suites: 1,16,4096.")] = None,
    batches: Annotated[str | None, typer.Option(help="Batch sizes of the models' suites: 1,8.")] = None,
    backends: Annotated[str | None, typer.Option(help="Names; all that are registered by default.")] = None,
    budget: Annotated[float | None, typer.Option(help="Minutes for the whole run.")] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu; cpu has suites of its own.")] = "cuda",
    compiled: Annotated[bool, typer.Option(help="Try the dense product under torch.compile too.")] = True,
    hot: Annotated[bool, typer.Option("--hot", help="Leave operands in the cache, instead of in memory.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare numbers only; time nothing.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Say what would run, and run nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of record, page and figure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record, not its summary.")] = False,
) -> None:
    """Measure every sparse backend against the best dense product, shape by shape.

    Writes a table, a figure and a record to results/kernels/<device>-<suites>/, or to --out. On a CPU one thread is
    measured by the time that it used of the processor; OMP_NUM_THREADS says how many there are.

    Example: nmbench kernels --suite llm --rows 1,16,4096 --budget 10
    """
    import torch

    from nmbench.kernels.bench.options import Options
    from nmbench.kernels.bench.run import available

    if budget is not None and not budget > 0:
        raise UsageError(f"--budget {budget:g}: give minutes, more than 0")
    if device not in ("cuda", "cpu"):
        raise UsageError(f"--device {device!r}: use cuda or cpu")
    asked = {"patterns": patterns, "dtypes": dtypes, "backends": backends}
    given: dict[str, Any] = {key: _words(key, text) for key, text in asked.items() if text is not None}
    given |= {key: _numbers(key, text) for key, text in (("rows", rows), ("batches", batches)) if text is not None}
    given |= {} if suite is None else {"suites": suite}
    options = Options.from_dict({**Options.usual(device), **given})
    budget_s = None if budget is None else 60 * budget
    options = replace(options, budget_s=budget_s, compiled=compiled, check_only=check, hot=hot)
    usable, refused = available(options.backends)
    if list_only:
        _list(options, usable, refused)
        return
    if device == "cuda" and not torch.cuda.is_available():
        typer.echo(
            "nmbench kernels: no GPU is visible, so nothing ran; --list says what would run, "
            "--device cpu measures this processor",
            err=True,
        )
        raise typer.Exit(2)
    _run(options, torch.device(device), usable, refused, out, as_json)


def _words(option: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"--{option} names nothing; leave it out for all")
    return words


def _numbers(option: str, text: str) -> list[int]:
    words = _words(option, text)
    if bad := [word for word in words if not (word.isascii() and word.isdigit())]:
        raise UsageError(f"--{option} {text!r}: {bad[0]!r} is no number; write 1,16,4096")
    return [int(word) for word in words]


def _list(options: Options, usable: dict[str, Backend], refused: dict[str, str]) -> None:
    """Suites with their number of cells, backends, patterns, dtypes."""
    from nmbench.kernels.bench.run import planned
    from nmbench.kernels.bench.suites import SUITES

    for name in options.suites:
        cells = planned(replace(options, suites=(name,)))
        shapes = len({(case.problem.weight, case.layer) for case, _ in cells})
        typer.echo(f"{name:<16} {shapes:>3} shapes {len(cells):>5} cells  {SUITES[name]}")
    typer.echo(f"patterns         {', '.join(map(str, options.patterns))}")
    typer.echo(f"dtypes           {', '.join(options.dtypes)}")
    typer.echo(f"backends         {', '.join(usable) or 'none'}")
    for name, reason in refused.items():
        typer.echo(f"not usable       {name}: {reason}")


def _run(
    options: Options, device: Any, usable: dict[str, Backend], refused: dict[str, str], out: Path | None, as_json: bool
) -> None:
    import torch

    from nmbench._util.machine import cpu_name
    from nmbench.kernels.bench.page import brief
    from nmbench.kernels.bench.record import folder, unused, write
    from nmbench.kernels.bench.run import run
    from nmbench.kernels.bench.suites import SUITES
    from nmbench.kernels.bench.summary import failed

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    to = out or unused(folder(name, options.suites, list(SUITES), device.type, check=options.check_only))
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {to}: no folder can be there ({error.strerror})") from error
    notes: list[str] = []

    def save(record: Record) -> None:
        notes[:] = write(record, to)

    def progress(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty():  # in a file it would be one endless line
            typer.echo(f"\r{done}/{total} {what}"[:100].ljust(100), nl=False, err=True)

    try:
        record = run(options, device, usable, refused, save, progress)
    except KeyboardInterrupt:
        held = f"what was measured is in {to}" if (to / "record.json").exists() else "nothing was measured yet"
        typer.echo(f"\nnmbench kernels: interrupted; {held}", err=True)
        raise typer.Exit(130) from None
    if sys.stderr.isatty():
        typer.echo("", err=True)
    typer.echo(json.dumps(record, indent=1) if as_json else brief(record))
    for note in [*notes, f"table, figure and record: {to}"]:
        typer.echo(note, err=as_json)
    if not record["cells"]:
        raise typer.Exit(2)
    if options.check_only and (failed(record["cells"]) or set(options.backends) & set(record["unusable"])):
        raise typer.Exit(1)
