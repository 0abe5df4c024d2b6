"""A task that trains in a moment, checkpoints often, and can be made to misbehave in many ways."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from nmbench.task import DataError, DataInfo, Metric, Spec, Task


class Tiny(Task):
    name = "tiny"
    metrics = (Metric("accuracy", "%", margin=2.0), Metric("loss", "nats", higher_is_better=False))
    models = ("mlp", "m" * 200)
    open_models = True
    scales = {"smoke": {"steps": 24, "pause": 0.03, "save_every": 2, "fail": "", "size": 32}}  # noqa: RUF012

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        fail = spec.train["fail"]
        if fail == "prepare-hang":
            time.sleep(3600)
        if fail == "print-bytes":
            os.write(1, b"\xff\xfe noise \x80\n")
        counts = {"train": 64}
        if fail == "count-np":
            import numpy as np

            counts = {"train": np.int64(64)}
        return DataInfo(root, counts, hashlib.sha256(b"tiny").hexdigest(), ("made up",))

    def build(self, spec: Spec):
        from torch import nn

        w = spec.train["size"]
        return nn.Sequential(nn.Linear(16, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 2))

    @staticmethod
    def _batch(run, index: int):
        import torch

        generator = torch.Generator().manual_seed(run.stream(0, index))
        x = torch.randn(32, 16, generator=generator)
        return x, (x[:, :8].sum(1) > 0).long()

    def train(self, model, run) -> None:
        import torch

        settings = run.spec.train
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        run.bind(optimizer)
        run.load_checkpoint(model, optimizer)
        self._at_start(settings["fail"], run)
        while run.updates < settings["steps"]:
            x, y = self._batch(run, run.updates)
            x = x + 0.1 * torch.randn_like(x)
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lr = float("inf") if settings["fail"] == "lr-inf" else 0.1
            run.step(loss=loss.detach(), lr=lr, total=settings["steps"])
            if run.updates == 7:
                self._fail(settings["fail"], run)
            if run.updates % settings["save_every"] == 0:
                run.save_checkpoint(model, optimizer)
            time.sleep(settings["pause"])

    @staticmethod
    def _at_start(fail: str, run) -> None:
        if fail == "ignore-sigterm":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if fail == "fork":
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(120)", "faults-child", str(run.checkpoint_dir)]
            )
        if fail == "fork-setsid":
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(60)", "faults-child", str(run.checkpoint_dir)],
                start_new_session=True,
            )
        if fail == "thread":
            import threading

            threading.Thread(target=time.sleep, args=(3600,)).start()
        if fail == "cwd-gone":
            import tempfile

            gone = tempfile.mkdtemp()
            os.chdir(gone)
            os.rmdir(gone)
            raise ValueError("after the working folder went")

    @staticmethod
    def _fail(fail: str, run) -> None:
        import resource

        import torch

        if fail in ("stdout-flood", "stdout-flood-crash"):
            line = b"x" * 999 + b"\n"
            block = line * 1000
            for _ in range(100):
                os.write(1, block)
            if fail.endswith("crash"):
                os._exit(3)
        if fail == "oneline-crash":
            for _ in range(90):
                os.write(1, b"y" * 1_000_000)
            os._exit(3)
        if fail == "nan":
            run.step(loss=float("nan"))
        if fail == "inf":
            run.step(loss=float("inf"))
        if fail == "exit0":
            os._exit(0)
        if fail == "sysexit":
            sys.exit(0)
        if fail == "segv":
            os.kill(os.getpid(), 11)
        if fail == "kill":
            os.kill(os.getpid(), 9)
        if fail == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if fail == "abrt":
            os.abort()
        if fail.startswith("mem-"):
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 29), taken + (1 << 29)))
            kept = []
            if fail == "mem-torch":
                while True:
                    kept.append(torch.ones(64 << 20))
            if fail == "mem-numpy":
                import numpy as np

                while True:
                    kept.append(np.empty(64 << 20))
            if fail == "mem-bytes":
                while True:
                    kept.append(bytearray(256 << 20))
            if fail == "mem-mmap":
                import mmap

                while True:
                    kept.append(mmap.mmap(-1, 256 << 20))
            if fail == "mem-thread":
                import threading

                while True:
                    t = threading.Thread(target=time.sleep, args=(5,), daemon=True)
                    t.start()
            if fail == "mem-fork":
                raise OSError(12, "Cannot allocate memory")
            if fail == "mem-loader":
                raise RuntimeError("DataLoader worker (pid 4242) is killed by signal: Killed. ")
            if fail == "mem-cuda":
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        if fail == "huge-message":
            raise ValueError("m" * 20_000_000)
        if fail == "deep-tb":

            def down(n):
                down(n + 1)

            down(0)
        if fail == "surrogate":
            raise DataError("cannot read b\udcff\udcfe.jpg")
        if fail == "bad-str":

            class Bad(Exception):
                def __str__(self):
                    raise RuntimeError("no words")

            raise Bad
        if fail == "multi-line-token":
            raise RuntimeError("401 for https://alice:ghp_SECRETTOKEN123@host.example/data?key=AKIAXYZ")
        if fail == "abs-path":
            raise RuntimeError("cannot open /mnt/projects/alice/secret/x.bin")
        if fail == "print-home-crash":
            print("loading", os.path.expanduser("~/private/alice.bin"), "/mnt/projects/alice/secret")
            os._exit(3)
        if fail == "kbd":
            raise KeyboardInterrupt
        if fail == "genexit":
            raise GeneratorExit("odd")
        if fail == "eio":
            raise OSError(5, "Input/output error", "/mnt/nfs/x")
        if fail == "enospc":
            raise OSError(28, "No space left on device")
        if fail == "rm-work":
            import shutil

            shutil.rmtree(run.checkpoint_dir.parent)
        if fail == "long-line":
            raise ValueError("<script>alert(1)</script>|`x`\x00\x1b[31m")

    def evaluate(self, model, run) -> dict[str, float]:
        import torch

        fail = run.spec.train["fail"]
        if fail == "eval-loop":
            while True:
                pass
        if fail == "eval-str":
            return {"accuracy": "many", "loss": 1.0}
        if fail == "eval-none":
            return None
        x, y = self._batch(run, 10_000)
        with torch.no_grad():
            out = model(x)
        hits = (out.argmax(1) == y).float()
        run.store_per_example("correct", hits.tolist())
        run.store_texts("answers", ["yes" if hit else "no" for hit in hits])
        for i in range(2):
            run.store_sample(f"example {i}", {"truth": str(int(y[i]))}, {"answer": str(int(out[i].argmax()))})
        run.store_baseline("chance", accuracy=float("nan") if fail == "baseline-nan" else 50.0)
        run.store_fact("examples", float("nan") if fail == "fact-nan" else len(hits))
        if fail == "fact-np":
            import numpy as np

            run.store_fact("np", np.int64(3))
        if fail == "note-obj":
            run.notes.append(Path("x"))
        if fail == "per-example-nan":
            run.store_per_example("bad", [float("nan")] * 3)
        if fail == "sample-bad":
            run.store_sample("bad", {"x": 3}, {"y": 4})
        if fail == "text-surrogate":
            run.store_texts("s", ["\udcff"])
            run.note("a note with \udcff in it")
        run.note("a tiny one")
        return {"accuracy": 100 * float(hits.mean()), "loss": float(torch.nn.functional.cross_entropy(out, y))}

    def example_inputs(self, spec: Spec):
        import torch

        return (torch.zeros(1, 16),)
