"""Everything that needs a GPU, in one go and within a time budget: tests, benchmarks, converted models. `make gpu`.

    python benchmarks/gpu.py [--minutes 9] [--out results/kernels/<gpu>] [--only NAME ...]
    python benchmarks/gpu.py --convert MODEL            one of its steps: a model end to end, dense and converted
    python benchmarks/gpu.py --kernels OPTIONS FOLDER   another: `nmbench kernels`; OPTIONS is JSON of bench's Options

Needs torch, triton, pydantic, filelock and platformdirs, and no installation: nmbench is found through a temporary
folder on PYTHONPATH. Each step is a process of its own with a time limit of its own, so that none can take the others
along; what it lacks is said.
Written after each step: summary.json (every result in one file), README.md and <step>.log.
Exit status: 0 all well, 1 a step failed, 2 no GPU.
"""

import argparse
import configparser
import contextlib
import importlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HERE = Path("benchmarks")
#: seconds that a step is not started with
LEAST = 15.0
#: seconds after which `convert` times no other layer, for each batch size of a model
LIMIT_S = 8.0


@dataclass(frozen=True)
class Step:
    """limit: seconds at most; of what is left a step may take `limit`, so that the first ones come first.

    needs: modules without which it is skipped. file: what it runs. result: "json" is the last JSON in its output,
    "record" the record.json in its folder, "file" <name>.json.
    """

    name: str
    arguments: list[str]
    limit: float
    needs: tuple[str, ...] = ()
    file: Path | None = None
    result: str = "json"


def steps(out: Path) -> list[Step]:
    """In order of importance: what comes late is what a short budget loses."""
    pytest = ["-m", "pytest", "tests/gpu", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-rfEs"]
    few = {"suites": ["llm"], "rows": [1, 16, 4096, 16384], "dtypes": ["bf16"], "patterns": ["2:4", "1:4", "1:16"]}
    more = {"suites": ["squares", "llm"], "rows": [1, 8, 64, 256, 1024, 8192], "compiled": False}
    models = {"suites": ["classification", "translation", "optical-flow", "detection"], "batches": [8],
              "dtypes": ["bf16"], "patterns": ["2:4", "1:16"], "compiled": False}  # fmt: skip
    return [
        Step("tests", pytest, 120, ("pytest",), Path("tests/gpu"), "text"),
        _kernels("kernels-llm", few, 130, out),
        _script("cuda_bandwidth", 45, out),
        _script("cuda_training_overhead", 75, out),
        _convert("resnet50", 40, ("torchvision",)),
        _convert("feed-forward", 30),
        _convert("vit_b_16", 40, ("torchvision",)),
        _convert("transformer", 40, ("fairseq",)),
        _convert("raft_large", 50, ("torchvision",)),
        _convert("faster-rcnn-r50", 50, ("mmdet",)),
        _kernels("kernels-models", models, 90, out),
        _kernels("kernels-rows", more, 240, out),
    ]


def _kernels(name: str, options: dict[str, Any], seconds: float, out: Path) -> Step:
    told = json.dumps({**options, "budget_s": seconds - 20})
    return Step(name, [str(HERE / "gpu.py"), "--kernels", told, str(out / name)], seconds, result="record")


def _script(name: str, seconds: float, out: Path) -> Step:
    file = HERE / f"{name}.py"
    return Step(name, [str(file), "--json", str(out / f"{name}.json")], seconds, file=file, result="file")


def _convert(model: str, seconds: float, needs: tuple[str, ...] = ()) -> Step:
    return Step(f"convert-{model}", [str(HERE / "gpu.py"), "--convert", model], seconds, needs, HERE / "gpu.py")


# -- a checkout that runs without being installed ---------------------------------------------------------------------
@contextlib.contextmanager
def importable(root: Path = ROOT):
    """A folder for PYTHONPATH from which nmbench, nmbench_tasks and their entry points are found."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "nmbench").symlink_to(root / "nmbench")
        (folder / "nmbench_tasks").symlink_to(root / "tasks")
        info = folder / f"nmbench-{config['metadata']['version']}.dist-info"
        info.mkdir()
        name, version = config["metadata"]["name"], config["metadata"]["version"]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = config["options.entry_points"].items()
        (info / "entry_points.txt").write_text("\n".join(f"[{group}]{lines}" for group, lines in groups) + "\n")
        yield folder


# -- running ----------------------------------------------------------------------------------------------------------
def run(step: Step, out: Path, left: float, path: Path) -> dict[str, Any]:
    """{name, status: ok | failed | timeout | skipped, reason, seconds, result}."""
    told: dict[str, Any] = {"name": step.name, "status": "skipped", "reason": "", "seconds": 0.0, "result": None}
    if missing := [name for name in step.needs if importlib.util.find_spec(name) is None]:
        return told | {"reason": f"{', '.join(missing)} is not installed"}
    if step.file is not None and not (ROOT / step.file).exists():
        return told | {"reason": f"there is no {step.file}"}
    if left < LEAST:
        return told | {"reason": "no time was left"}
    begun, limit = time.monotonic(), min(step.limit, left)
    before = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *([before] if before else [])])}
    log = out / f"{step.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *step.arguments], cwd=ROOT, env=environment, stdout=file,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    told["seconds"] = round(time.monotonic() - begun, 1)
    text = log.read_text(errors="replace")
    told["result"] = _result(step, out, text)
    if code is None:
        return told | {"status": "timeout", "reason": f"it took more than {limit:.0f} s"}
    if code == 0:
        return told | {"status": "ok"}
    last = (text.strip().splitlines() or ["it said nothing"])[-1]
    return told | {"status": "failed", "reason": f"exit status {code}: {last[:200]}"}


def _end(process: subprocess.Popen) -> None:
    """The step's whole process group: compilers and loaders that it started too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(step: Step, out: Path, text: str) -> Any:
    if step.result == "record":
        try:
            record = json.loads((out / step.name / "record.json").read_text())
        except (OSError, ValueError):
            return None
        keys = ("device", "environment", "roofline", "planned", "notes", "summary", "targets")
        return {key: record[key] for key in keys} | {"cells": len(record["cells"])}
    if step.result == "file":
        try:
            return json.loads((out / f"{step.name}.json").read_text())
        except (OSError, ValueError):
            return None
    if step.result == "text":
        return (text.strip().splitlines() or [""])[-1]
    return last_json(text)


def last_json(text: str) -> Any:
    """The last JSON object or list that begins a line; None if there is none."""
    decoder, found, end = json.JSONDecoder(), None, 0
    for match in re.finditer(r"^[\[{]", text, re.MULTILINE):
        if match.start() < end:
            continue  # inside the one before
        try:
            found, length = decoder.raw_decode(text[match.start() :])
        except ValueError:
            continue
        end = match.start() + length
    return found


def write(summary: dict[str, Any], out: Path) -> None:
    for name, text in (("summary.json", json.dumps(summary, indent=1) + "\n"), ("README.md", page(summary))):
        temporary = out / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out / name)


def page(summary: dict[str, Any]) -> str:
    """Steps, targets and converted models; all of it as measured."""
    lines = [f"# GPU run on {summary['gpu']}", "", f"{summary['date']}, driver {summary['driver']}, torch "
             f"{summary['torch']}, {summary['seconds']:.0f} s.", "", "| Step | Status | Seconds | |",
             "| --- | --- | ---: | --- |"]  # fmt: skip
    for step in summary["steps"]:
        said = step["reason"] or (step["result"] if isinstance(step["result"], str) else "")
        where = f"[{step['name']}]({step['name']}/README.md)" if step["name"].startswith("kernels") else step["name"]
        lines.append(f"| {where} | {step['status']} | {step['seconds']:.0f} | {said.replace('|', '/')} |")
    measured = [s for s in summary["steps"] if s["name"].startswith("convert-") and isinstance(s["result"], dict)]
    if measured:
        lines += ["", "| Model | Dtype | Batch | Dense ms | Converted ms | Ratio | Timed by |",
                  "| --- | --- | ---: | ---: | ---: | ---: | --- |"]  # fmt: skip
    for step in measured:
        told = step["result"]
        for row in told["rows"]:
            times = ["-" if row[key] is None else f"{row[key]:.4g}" for key in ("dense_ms", "converted_ms", "ratio")]
            name = step["name"].removeprefix("convert-")
            lines.append(f"| {name} | {told['dtype']} | {row['batch']} | {' | '.join(times)} | {told['how']} |")
    return "\n".join(lines) + "\n"


# -- products ---------------------------------------------------------------------------------------------------------
def kernels(options: str, folder: str) -> int:
    """A run of the kernels' benchmark without the command line's packages; 2 where nothing can run."""
    import torch

    from nmbench._util.errors import UsageError
    from nmbench.kernels.bench.options import Options
    from nmbench.kernels.bench.record import write
    from nmbench.kernels.bench.run import available, run

    try:
        asked = Options.from_dict(json.loads(options))
        backends, refused = available(asked.backends)
    except UsageError as error:
        print(f"make gpu: {error}", file=sys.stderr)
        return 2
    to = Path(folder)
    record = run(asked, torch.device("cuda"), backends, refused, save=lambda record: print(*write(record, to)))
    print(f"{len(record['cells'])} of {record['planned']} cells measured, in {to}")
    return 0


# -- models end to end ------------------------------------------------------------------------------------------------
def convert(name: str, device: str = "cuda") -> dict[str, Any]:
    """A model at its paper's size with fresh weights, pruned once to 2:4, timed dense and converted."""
    import torch

    from nmbench.sparsity import sparsify
    from nmbench.worker.speed import measure

    torch.manual_seed(0)
    model, inputs, layers = _model(name)
    model.to(device)
    sparsify(model, "2:4", method="one-shot", layers=layers).finalize()
    speed = measure(model, inputs, torch.device(device), budget_s=12.0, limit_s=LIMIT_S, progress=_tell(name))
    return {"model": name, **speed.model_dump(mode="json")}


def _tell(name: str) -> Any:
    """Prints what was measured at once, so that a step that is ended has told of its smaller batches."""
    return lambda speed: print(json.dumps({"model": name, **speed.model_dump(mode="json")}), flush=True)


def _model(name: str) -> tuple[Any, tuple[Any, ...], Any]:
    import torch
    from torch import nn

    if name == "feed-forward":
        blocks = [nn.Sequential(nn.Linear(4096, 11008), nn.GELU(), nn.Linear(11008, 4096)) for _ in range(8)]
        return nn.Sequential(*blocks).eval(), (torch.randn(1, 4096),), None
    import nmbench.task

    tasks = {
        "resnet50": ("nmbench_tasks.classification", "Classification", "resnet50"),
        "vit_b_16": ("nmbench_tasks.classification", "Classification", "vit_b_16"),
        "faster-rcnn-r50": ("nmbench_tasks.detection", "Detection", "faster-rcnn-r50"),
        "raft_large": ("nmbench_tasks.optical_flow", "OpticalFlow", "raft_large"),
        "transformer": ("nmbench_tasks.translation", "Translation", "transformer_wmt_en_de"),
    }
    module, cls, model = tasks[name]
    task = getattr(importlib.import_module(module), cls)()
    spec = nmbench.task.Spec(task.name, model, "paper", 0, task.scales["paper"], "cuda")
    built = task.build(spec)
    names = task.candidates(built)
    return built.eval(), task.example_inputs(spec), None if names is None else list(names)


# -- the command ------------------------------------------------------------------------------------------------------
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--convert", metavar="MODEL")
    parser.add_argument("--kernels", nargs=2, metavar=("OPTIONS", "FOLDER"))
    args = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("make gpu: torch is not installed here; nothing ran", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("make gpu: no GPU is visible; nothing ran", file=sys.stderr)
        return 2
    if args.convert:
        print(json.dumps(convert(args.convert)))
        return 0
    if args.kernels:
        return kernels(*args.kernels)
    return everything(args.minutes, args.out, args.only)


def everything(minutes: float, out: Path | None, only: list[str] | None) -> int:
    import torch

    begun = time.monotonic()
    name = torch.cuda.get_device_name()
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    out = (out or ROOT / "results" / "kernels" / slug).absolute()
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"schema_version": 1, "kind": "gpu", "gpu": name, "driver": _driver(),
                               "torch": torch.__version__, "python": sys.version.split()[0],
                               "date": time.strftime("%Y-%m-%d", time.gmtime()), "seconds": 0.0,
                               "steps": []}  # fmt: skip
    chosen = [step for step in steps(out) if not only or step.name in only]
    with importable() as path:
        for step in chosen:
            print(f"{step.name} ...", flush=True)
            told = run(step, out, 60 * minutes - (time.monotonic() - begun), path)
            summary["steps"].append(told)
            summary["seconds"] = round(time.monotonic() - begun, 1)
            write(summary, out)
            print(f"  {told['status']} in {told['seconds']:.0f} s {told['reason']}".rstrip(), flush=True)
    print(f"summary: {out}")
    return 1 if any(told["status"] in ("failed", "timeout") for told in summary["steps"]) else 0


def _driver() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    sys.exit(main())
