"""The sinks that come with nmbench, read back by the programs that they are for; skipped where one is not installed."""

import getpass
import socket

import pytest
from test_outbox import RECORD, put

from nmbench.sinks.base import MissingPackage, load
from nmbench.sinks.outbox import Outbox


@pytest.fixture
def send(tmp_path, monkeypatch):
    """Sends two good attempts, the first of them twice, and a failed one; the sink's folder."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)

    def go(name):
        try:
            load(name)
        except MissingPackage as error:
            pytest.skip(f"{name}: {error}")
        failed = {"status": "oom", "error": {"message": "too large"}, "metrics": None, "curve": None, "sad": None}
        results, warnings = tmp_path / "results" / "quick", []
        attempts = [put(results, RECORD | {"attempt": 1}), put(results, RECORD | {"attempt": 2})]
        attempts += [attempts[0], put(results, RECORD | {"attempt": 3, **failed})]
        outbox = Outbox([name], tmp_path / "sinks", results, warnings.append)
        for attempt in attempts:
            outbox.send(attempt)
        assert outbox.close() == {name: 4}, (tmp_path / "sinks" / name / "sink.log").read_text()
        assert warnings == []
        return tmp_path / "sinks" / name

    return go


def _names_nobody(folder):
    """No file name and no content tells the machine or its user (names too short to look for are left out)."""
    wanted = [name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4]
    for file in folder.rglob("*"):
        for name in wanted:
            assert name not in file.name
            assert not file.is_file() or name.encode() not in file.read_bytes(), file


def test_tensorboard(send):
    folder = send("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    files = sorted(folder.rglob("events.out.tfevents.*"))
    assert [file.parent.name for file in files] == ["attempt-1", "attempt-2", "attempt-3"]
    good, failed = (EventAccumulator(str(files[place].parent)).Reload() for place in (0, 2))
    assert [(event.step, event.value) for event in good.Scalars("train/loss")] == [(1, 2.0), (2, 1.0), (4, 0.5)]
    assert [(event.step, event.value) for event in good.Scalars("final/accuracy")] == [(8, 93.5)]
    assert {"sad/total", "cost/parameters", "time/train_s"} <= set(good.Tags()["scalars"])
    start = HParamsPluginData.FromString(good.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    assert start.session_start_info.hparams["pattern"].string_value == "2:4"
    assert start.session_start_info.hparams["hyper.lambda_w"].number_value == 0.02
    end = HParamsPluginData.FromString(failed.PluginTagToContent("hparams")["_hparams_/session_end_info"])
    assert end.session_end_info.status == 2  # STATUS_FAILURE
    _names_nobody(folder)


def test_mlflow(send):
    folder = send("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("nmbench quick").experiment_id
    runs = {run.data.tags["nmbench.attempt"]: run for run in client.search_runs([experiment])}
    assert {attempt: run.info.status for attempt, run in runs.items()} == {
        **{"1": "FINISHED", "2": "FINISHED", "3": "FAILED"}
    }
    one = runs["1"]
    assert one.data.params["hyper.lambda_w"] == "0.02"
    assert one.data.metrics["accuracy"] == 93.5
    history = client.get_metric_history(one.info.run_id, "sad/flips_per_step")
    assert [(entry.step, entry.value) for entry in history] == [(2, 4.0), (4, 2.0), (8, 0.0)]
    assert runs["3"].data.tags["nmbench.error"] == "too large"
    assert one.info.user_id in ("unknown", "")


def test_wandb(send):
    folder = send("wandb")
    runs = sorted(path.name for path in (folder / "wandb").glob("offline-run-*"))
    assert [name[-1] for name in runs] == ["1", "2", "3"]
    (file,) = (folder / "wandb" / runs[0]).glob("*.wandb")
    content = file.read_bytes()
    assert all(word in content for word in (b"hyper.lambda_w", b"sad/flips_per_step", b"accuracy", b"sr-ste"))
    _names_nobody(folder)
