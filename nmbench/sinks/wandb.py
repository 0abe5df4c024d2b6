"""Weights & Biases, offline: nothing leaves the machine until a person runs

wandb sync sinks/wandb/wandb/offline-run-*
"""

import os
from pathlib import Path

from nmbench._util.files import remove_below
from nmbench.sinks.base import Sink
from nmbench.sinks.finished import Finished


class WandB(Sink):
    """One offline run an attempt, grouped by task; its id is that of the attempt, so that syncing again replaces it."""

    requires = ("wandb",)
    install = "pip install 'nmbench[wandb]'"

    def open(self, folder: Path, matrix: str) -> None:
        """See Sink."""
        # before the import, which reads them: no network, no files elsewhere, no hint about a new version
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            os.environ[name] = str(folder / "settings")
        self.folder = folder
        self.project = os.environ.get("WANDB_PROJECT") or f"nmbench-{matrix}"

    def write(self, cell: Finished) -> None:
        """See Sink."""
        import wandb

        for old in (self.folder / "wandb").glob(f"offline-run-*-{cell.run_id}"):
            remove_below(self.folder, old)
        settings = wandb.Settings(
            mode="offline",
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        run = wandb.init(
            dir=str(self.folder),
            project=self.project,
            id=cell.run_id,
            name=cell.name,
            group=str(cell.params["task"]),
            tags=[cell.status, str(cell.params["pattern"]), str(cell.params["method"])],
            config={**cell.params, **{f"nmbench.{name}": value for name, value in cell.tags.items()}},
            settings=settings,
        )
        # one call a step, as wandb wants rising steps
        steps: dict[int, dict[str, float]] = {}
        for name, points in cell.series.items():
            for step, value in points:
                steps.setdefault(step, {})[name] = value
        for step in sorted(steps):
            run.log(steps[step], step=step)
        run.summary.update(dict(cell.metrics))
        run.finish(exit_code=0 if cell.status == "ok" else 1)

    def close(self) -> None:
        """See Sink."""
        import wandb

        wandb.teardown()
