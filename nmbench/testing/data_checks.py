"""The checks of what a task declares and of its data. Each function is one check; the context is a Bench."""

import json
from pathlib import Path

from nmbench._util.errors import first_line
from nmbench.contract.run import Run
from nmbench.contract.spec import DataError, SkipCell
from nmbench.testing.battery import Failed, Skip, check, collected
from nmbench.testing.bench import Bench

__all__ = ["DATA_CHECKS"]

_DAMAGED = 8  # files of each ending that are damaged at once


@check("declares a smoke scale, models, and distinct metrics with a primary one")
def declarations_are_complete(bench: Bench) -> None:
    task = bench.task
    if "smoke" not in task.scales:
        raise Failed("it declares no scale 'smoke', with which everything here runs")
    names = [metric.name for metric in task.metrics]
    if len(set(names)) < len(names):
        raise Failed(f"two metrics share a name: {', '.join(names)}")
    try:
        json.dumps({name: dict(settings) for name, settings in task.scales.items()})
    except TypeError as error:
        raise Failed(f"the scales are not plain JSON values: {error}") from error
    for scale, model in dict(task.default_models).items():
        if model not in task.models and not task.open_models:
            raise Failed(f"the default model of scale {scale}, {model!r}, is not among its models")
    if task.metrics[0].margin <= 0:
        raise Failed(f"the primary metric {names[0]!r} has no margin: no sparse model could ever be 'not worse'")


@check("prepare() called again changes nothing, and names the same data")
def preparing_again_changes_nothing(bench: Bench) -> None:
    first = bench.data()
    stamps = {path: path.stat().st_mtime_ns for path in bench.data_root.rglob("*") if path.is_file()}
    second = bench.task.prepare(bench.spec(), bench.data_root)
    if second.fingerprint != first.fingerprint:
        raise Failed("the fingerprint of the data differs between two calls of prepare()")
    later = {path: path.stat().st_mtime_ns for path in bench.data_root.rglob("*") if path.is_file()}
    changed = [path.name for path in stamps if later.get(path) != stamps[path] and not path.name.endswith(".lock")]
    if changed:
        raise Failed(f"prepare() wrote again what was whole: {', '.join(sorted(changed)[:3])}")


@check("damaged data are made good or refused as DataError, never met with another exception")
def broken_data_are_told(bench: Bench) -> None:
    info = bench.data()
    files: dict[str, list[Path]] = {}
    for path in sorted(info.path.rglob("*")):
        if path.is_file() and path.name != ".lock" and path.stat().st_size > 1:
            files.setdefault(path.suffix, []).append(path)
    if not files or not info.path.resolve().is_relative_to(bench.data_root.resolve()):
        raise Skip("prepare() writes no files below the data folder")
    kept = {path: path.read_bytes() for own in files.values() for path in own[:_DAMAGED]}
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 2])
    try:
        made_good = bench.task.prepare(bench.spec(), bench.data_root)
        if made_good.fingerprint == info.fingerprint and all(path.read_bytes() == kept[path] for path in kept):
            return
        run = Run(bench.spec(), made_good, None, bench.folder / "work" / "damaged")
        bench.task.train(bench.build(bench.spec()), run)
    except (DataError, SkipCell):
        return
    except Exception as error:
        raise Failed(f"files cut in half end in {first_line(error)}") from error
    finally:
        for path, content in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    raise Failed(f"{len(kept)} files were cut in half, and prepare() and train() did not notice")


DATA_CHECKS = collected(globals())
