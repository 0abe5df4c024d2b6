"""`nmbench run M`: run what is not done."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nmbench._util.errors import UsageError, nearest
from nmbench._util.machine import gpus
from nmbench.cli.common import Data, EngineOptions, MatrixName, Only, Plugins, Results, Seeds, Selection, Yes, select
from nmbench.cli.export import SinkFolder, SinkNames, outbox_for
from nmbench.cli.prepare import fingerprints
from nmbench.document.words import plural

if TYPE_CHECKING:
    from nmbench.plan.cell import Cell
    from nmbench.records.store import CellState


def _stale(state: CellState, code: str, fingerprint: str | None) -> bool:
    record = state.record
    if record is None or record.environment is None or record.environment.code != code:
        return True
    return fingerprint is not None and (record.data is None or record.data.fingerprint != fingerprint)


def _wanted(chosen: Selection, rerun: str | None, data: Path) -> list[Cell]:
    """The cells to run: those not done; or with --rerun, those of one kind."""
    from nmbench.plan.catalogue import code_hash

    states = [chosen.store.state(cell, brief=rerun != "stale") for cell in chosen.cells]
    if rerun is None:
        return [state.cell for state in states if not state.done]
    if rerun != "stale":
        return [state.cell for state in states if state.status == rerun]
    done = [state for state in states if state.done]
    prints = fingerprints([state.cell for state in done], chosen.catalogue.tasks, data)
    tasks, methods = chosen.catalogue.tasks, chosen.catalogue.methods
    codes = {key: code_hash(tasks[key[0]], methods.get(key[1])) for key in {(s.cell.task, s.cell.method) for s in done}}
    return [s.cell for s in done if _stale(s, codes[s.cell.task, s.cell.method], prints.get(s.cell.id))]


def _command(matrix: str, results: Path, data: Path, plugins: Path | None) -> str:
    """The command as a person would type it again, options at their defaults left out."""
    parts = ["nmbench", "run", _short(Path(matrix))]
    if results != Path("results"):
        parts += ["--results", _short(results)]
    if data != Path("data"):
        parts += ["--data", _short(data)]
    if plugins is not None:
        parts += ["--plugins", _short(plugins)]
    return shlex.join(parts)


def _short(path: Path) -> str:
    # records hold no absolute paths: they would tell user names, and mean nothing elsewhere
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path.name if path.is_absolute() else str(path)


def _for_nodes(
    matrix: str, results: Path, data: Path, plugins: Path | None, seeds: str | None, device: str,
    timeout: float | None, hang: float | None, yes: bool, trace: bool,
) -> list[str]:  # fmt: skip
    """Arguments of `nmbench run` that a node is given; it is started in this folder."""
    given: dict[str, Any] = {"--results": results, "--data": data, "--plugins": plugins, "--seeds": seeds}
    given |= {"--device": device, "--timeout": timeout, "--hang": hang}
    parts = [text for key, value in given.items() if value is not None for text in (key, str(value))]
    return [matrix, *parts, *["--yes"] * yes, *["--trace-batches"] * trace]


def _measure_speed(
    chosen: Selection, device: str, data: Path, asked: bool, budget_s: float, say: Callable[[str], None]
) -> None:
    """Time the models of all done cells that have no speed yet, one after the other, with the machine to themselves.

    asked: each cell, by all engines; else briefly, once for each model and pattern.
    """
    from nmbench.running import brief
    from nmbench.running.speed import Settings, ask, wanted

    kind: Literal["cpu", "cuda"] = "cuda" if device == "cuda" or (device == "auto" and gpus()) else "cpu"
    found, lost = wanted([chosen.store.state(cell) for cell in chosen.cells], kind, brief=not asked)
    tasks, settings = chosen.catalogue.tasks, Settings(kind, data, budget_s)
    states = [state for state in found if tasks[state.cell.task].status == "ok"]
    for state in found:
        if state not in states:
            say(f"speed {state.cell.label}: {tasks[state.cell.task].reason}")
    if asked:
        for number, state in enumerate(states, 1):
            done = ask(state, tasks[state.cell.task].reference, settings)
            say(f"speed {number}/{len(states)} {state.cell.label}: {done}")
        if lost:
            say(f"speed: {lost} done cells left no weights here (weights.safetensors), so they cannot be timed")
        if not found and not lost:
            say("speed: every done cell has been timed")
    elif states:
        groups = brief.groups(states)
        say(f"speed: one forward pass of {plural(len(groups), 'model')}, dense and converted")
        brief.measure(groups, {name: task.reference for name, task in tasks.items()}, settings, say)


def _check(device: str, rerun: str | None, limits: Mapping[str, float | None], on: str) -> None:
    """Raises UsageError for an option that is none."""
    from nmbench.records.schema import Status

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r}: use auto, cpu or cuda")
    if device == "cuda" and on == "local" and not gpus():
        raise UsageError("--device cuda: no NVIDIA GPU is visible here")
    if rerun is not None and rerun not in (kinds := (*map(str, Status), "stale", "unfinished", "unreadable")):
        raise UsageError(f"--rerun {rerun!r}: no such kind{nearest(rerun, kinds)}")
    for option, seconds in limits.items():
        if seconds is not None and not 0 < seconds < math.inf:
            raise UsageError(f"{option} {seconds:g}: give a number of seconds above 0")


def run(
    matrix: MatrixName,
    results: Results = Path("results"),
    data: Data = Path("data"),
    only: Only = None,
    seeds: Seeds = None,
    workers: Annotated[int, typer.Option(min=0, help="Cells at a time; 0 fits the machine. With --on: jobs.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    rerun: Annotated[
        str | None, typer.Option(help="Only cells that ended so (a status), or `stale`: done with other code or data.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a cell may take.")] = None,
    hang: Annotated[float | None, typer.Option(help="Seconds a cell may give no sign of life.")] = None,
    plugins: Plugins = None,
    yes: Yes = False,
    trace: Annotated[bool, typer.Option("--trace-batches", help="Keep a checksum of each training batch.")] = False,
    sink: SinkNames = None,
    sinks: SinkFolder = None,
    speed: Annotated[
        bool | None,
        typer.Option(
            "--speed/--no-speed",
            help="Then time a forward pass of each done cell's model, dense and converted. Done cells are not trained "
            "again: those that have no speed yet and still have their weights are timed. A matrix may do so by "
            "default, or in brief.",
        ),
    ] = None,
    speed_budget: Annotated[float, typer.Option(min=0.1, help="Seconds of timing a cell, for --speed.")] = 30.0,
    on: Annotated[str, typer.Option(help="Where: local, slurm or ray.")] = "local",
    engine_options: EngineOptions = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit all cells to the engine, and go.")] = False,
    pack: Annotated[int, typer.Option(min=1, help="Cells that share a job of the engine, one after the other.")] = 1,
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Only the cell of this id; for job arrays.")] = None,
    cpus: Annotated[int, typer.Option(min=0, help="Cores to use; 0: all that this process was given.")] = 0,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="With --cell: nothing else runs on this machine, so that times count.")
    ] = False,
) -> None:
    """Run every cell of a matrix that is not done; again does only what is left.

    Example: nmbench run quick --workers 2
    """
    from rich.console import Console

    from nmbench.cli.fleet import Remote, named_cells
    from nmbench.running.fleet import Fleet
    from nmbench.running.local import Limits, Local
    from nmbench.running.order import Options
    from nmbench.running.progress import progress_for
    from nmbench.running.scheduler import Scheduler

    _check(device, rerun, {"--timeout": timeout, "--hang": hang}, on)
    if on != "local" and (speed or cell):
        raise UsageError(f"--on {on}: {'--speed' if speed else '--cell'} is for the machine that measures or trains")
    if on == "local" and (engine_options or detach or pack > 1):
        raise UsageError("--engine, --detach and --pack are for an engine: give --on slurm or --on ray")
    chosen = select(matrix, results, only, seeds, plugins, yes)
    timed = chosen.matrix.speed and on == "local" and not cell if speed is None else speed
    full = speed is True or chosen.matrix.speed == "full"
    console = Console(stderr=False)
    codes: dict[str, str] = {}
    # cells by name are a driver's or a job array's, which see to it that each runs once
    with contextlib.nullcontext() if cell else chosen.store.lock():
        if cell:
            cells, codes = named_cells(chosen, cell)
        else:
            cells = _wanted(chosen, rerun, data)
        done = len(cell or chosen.cells) - len(cells)

        def say(text: str) -> None:
            console.print(text, highlight=False, markup=False, soft_wrap=True)

        if not cells:
            say(f"{chosen.matrix.name}: nothing to do, {done} cells are done")
            if timed:
                _measure_speed(chosen, device, data, full, speed_budget, say)
            return
        planned = chosen.matrix
        limits = Limits(planned.timeout if timeout is None else timeout, planned.hang if hang is None else hang)
        command = _command(matrix, results, data, plugins)
        options = Options(data, trace, command, chosen.alone, codes)
        outbox = outbox_for(sink, sinks, results, chosen.store.folder, console)
        progress = progress_for(console)
        runner: Scheduler | Fleet | None = None
        try:
            if on == "local":
                whole = exclusive or not (cell or "SLURM_JOB_ID" in os.environ)
                executor = Local(workers, device, limits, cpus, whole)
                runner = Scheduler(chosen.store, chosen.catalogue, options, progress, executor, written=outbox.send)
            else:
                arguments = _for_nodes(matrix, results, data, plugins, seeds, device, timeout, hang, yes, trace)
                again = rerun is not None and any(chosen.store.state(one).done for one in cells)
                remote = Remote(on, engine_options or [], arguments, workers, pack, device, limits.timeout, again)
                runner = remote.driver(chosen, options, progress, outbox.send)
            if isinstance(runner, Fleet) and detach:
                number, trouble = runner.detach(cells)
                say(f"{chosen.matrix.name}: {number} jobs submitted; `nmbench status {matrix}` tells how they stand")
                if trouble:
                    raise UsageError(f"{trouble}; the same command again submits the rest")
                return
            records = runner.run(cells)
            if timed:
                _measure_speed(chosen, device, data, full, speed_budget, say)
        except KeyboardInterrupt:
            left = isinstance(runner, Fleet) and runner.left
            text = "left; its jobs go on" if left else "interrupted"
            say(f"{chosen.matrix.name}: {text}; run the same command again to go on")
            raise typer.Exit(130) from None
        finally:
            outbox.close()
    failed = sum(record.status.failed for record in records)
    console.print(
        f"{chosen.matrix.name}: {len(records) - failed} done now, {done} before, {failed} failed; "
        f"`nmbench report {matrix}` makes the report",
        highlight=False,
        soft_wrap=True,
    )
    if failed:
        raise typer.Exit(1)
