"""TensorBoard: one run an attempt, with scalars over training and its settings in the HParams table.

    tensorboard --logdir sinks/tensorboard

The event files are written by TensorBoard's own record writer. TensorBoard's and PyTorch's SummaryWriter would put the
host's name into the name of each file, and the second imports torch.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nmbench._util.files import remove_below
from nmbench.sinks.base import Sink
from nmbench.sinks.finished import Finished

#: first parts of metrics that are no metrics of the task
_GROUPS = ("sad", "cost", "time", "memory", "measurement")


class TensorBoard(Sink):
    """Writes FOLDER/MATRIX/TASK/CELL/attempt-K/events.out.tfevents.0."""

    requires = ("tensorboard",)
    install = "pip install 'nmbench[tensorboard]'"

    def open(self, folder: Path, matrix: str) -> None:
        """See Sink."""
        self.folder = folder / matrix

    def write(self, cell: Finished) -> None:
        """See Sink."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        run = self.folder / cell.folder
        remove_below(self.folder, run)
        run.mkdir(parents=True)
        with (run / "events.out.tfevents.0").open("wb") as file:
            writer = RecordWriter(file)
            for event in _events(cell):
                writer.write(event.SerializeToString())


def _events(cell: Finished) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event

    now = time.time()
    yield Event(wall_time=now, file_version="brain.Event:2")
    yield from (Event(wall_time=now, summary=one) for one in _settings(cell, now))
    last = 0
    for name, points in cell.series.items():
        for step, value in points:
            yield Event(wall_time=now, step=step, summary=_scalar(name, value))
            last = max(last, step)
    for name, value in cell.metrics.items():
        group, dot, rest = name.partition(".")
        tag = f"{group}/{rest}" if dot and group in _GROUPS else f"final/{name}"
        yield Event(wall_time=now, step=last, summary=_scalar(tag, value))
    yield Event(wall_time=now, summary=_ending(cell, now))


def _scalar(name: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value)])


def _settings(cell: Finished, now: float) -> Iterator[Any]:
    """What the HParams table shows of an attempt."""
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    start = SessionStartInfo(group_name=cell.run_id, start_time_secs=now)
    for name, value in {**cell.params, "status": cell.status}.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    yield _of_plugin(SESSION_START_INFO_TAG, HParamsPluginData(version=0, session_start_info=start))


def _ending(cell: Finished, now: float) -> Any:
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = Status.Value("STATUS_SUCCESS" if cell.status == "ok" else "STATUS_FAILURE")
    end = SessionEndInfo(status=status, end_time_secs=now)
    return _of_plugin(SESSION_END_INFO_TAG, HParamsPluginData(version=0, session_end_info=end))


def _of_plugin(tag: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.metadata import PLUGIN_NAME

    about = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=about))])
