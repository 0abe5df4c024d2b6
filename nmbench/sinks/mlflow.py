"""MLflow: one experiment a matrix, one run an attempt.

    mlflow ui --backend-store-uri sqlite:///sinks/mlflow/mlflow.db

`MLFLOW_TRACKING_URI`, where it is set, decides instead: a server, or another store.
"""

import os
import time
from pathlib import Path
from typing import Any

from nmbench.sinks.base import Sink
from nmbench.sinks.finished import Finished

_AT_ONCE = 1000  # metrics that MLflow takes in one call
_LONGEST = 5000  # characters of a tag's value


class MLflow(Sink):
    """Uses the client, not `mlflow.start_run`: that would add the user's name and the command to each run."""

    requires = ("mlflow-skinny|mlflow", "sqlalchemy", "alembic")
    install = "pip install 'nmbench[mlflow]'"

    def open(self, folder: Path, matrix: str) -> None:
        """See Sink."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        self.client = MlflowClient(tracking_uri=elsewhere or f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        name = f"nmbench {matrix}"
        # else artifacts would be looked for in the folder that the command happened to run in
        place = None if elsewhere else (folder / "artifacts").absolute().as_uri()
        known = self.client.get_experiment_by_name(name)
        self.experiment = known.experiment_id if known else self.client.create_experiment(name, place)

    def write(self, cell: Finished) -> None:
        """See Sink."""
        from mlflow.entities import Param, RunTag

        wanted = f"tags.`nmbench.run_id` = '{cell.run_id}'"
        for old in self.client.search_runs([self.experiment], wanted):
            self.client.delete_run(old.info.run_id)
        tags = {"nmbench.run_id": cell.run_id, **{f"nmbench.{name}": value for name, value in cell.tags.items()}}
        run = self.client.create_run(self.experiment, run_name=cell.name).info.run_id
        params = [Param(name, str(value)) for name, value in cell.params.items()]
        self.client.log_batch(run, params=params, tags=[RunTag(name, text[:_LONGEST]) for name, text in tags.items()])
        metrics = _metrics(cell)
        for first in range(0, len(metrics), _AT_ONCE):
            self.client.log_batch(run, metrics=metrics[first : first + _AT_ONCE])
        self.client.set_terminated(run, "FINISHED" if cell.status == "ok" else "FAILED")


def _metrics(cell: Finished) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    over = [Metric(name, value, now, step) for name, points in cell.series.items() for step, value in points]
    return over + [Metric(name, value, now, 0) for name, value in cell.metrics.items()]
