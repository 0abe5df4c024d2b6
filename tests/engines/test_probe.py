"""`nmbench doctor --on E`: what a probe finds, with an engine that answers at once, late, or not at all."""

import threading
import time
from pathlib import Path

import pytest
from pretended import GONE, Pretended

from nmbench._util.errors import UsageError
from nmbench.engines.engine import Busy, Fate, Needs, Phase
from nmbench.running import probe

RUNNING = Fate(Phase.RUNNING)


class Answering(Pretended):
    """Runs the probe in a thread of this process."""

    def __init__(self, change=lambda folder: None) -> None:
        super().__init__(lambda handle, ticket: RUNNING)
        self.change = change

    def submit(self, ticket):
        folder = Path(ticket.command[-1])

        def work() -> None:
            self.change(folder)
            probe.answer(folder)

        threading.Thread(target=work, daemon=True).start()
        return super().submit(ticket)


def test_a_node_like_this_machine_is_well(tmp_path):
    findings = probe.ask(Answering(), tmp_path / "probe", Needs())
    assert findings.there.code == findings.here.code
    assert findings.there.locked is False, "the lock of the other side holds"
    assert findings.to_there is not None
    assert all(well for well, line in findings.lines() if not line.startswith("free"))


def test_other_code_and_a_clock_that_is_off_are_told(tmp_path, monkeypatch):
    findings = probe.ask(Answering(), tmp_path / "probe", Needs())
    there = findings.there.model_copy(update={"code": "other", "offset": findings.here.offset + 90, "torch": "1.0"})
    changed = probe.Findings(findings.here, there, 3.0, 0.5, None)
    wrong = [line.split()[0] for well, line in changed.lines() if not well and not line.startswith("free")]
    assert wrong == ["code", "python", "folder", "clocks"]


def test_a_probe_that_ends_without_an_answer_is_told_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_SETTLE_S", 0.1)
    monkeypatch.setattr(probe, "_ASK_S", 0.1)

    def act(handle, ticket):
        ticket.log.write_text("No module named nmbench\n")
        return GONE

    engine = Pretended(act)
    with pytest.raises(UsageError, match="its log ends: No module named nmbench"):
        probe.ask(engine, tmp_path / "probe", Needs())
    assert engine.cancelled == ["1"]


def test_one_that_prints_nothing_may_not_see_the_folder(tmp_path):
    with pytest.raises(UsageError, match="do the nodes see this folder"):
        probe.ask(Pretended(lambda handle, ticket: RUNNING), tmp_path / "probe", Needs(), limit_s=0.3)


def test_a_probe_that_nobody_waits_for_any_more_is_cancelled(tmp_path, monkeypatch):
    engine = Pretended(lambda handle, ticket: RUNNING)

    def ctrl_c(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(probe.time, "sleep", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        probe.ask(engine, tmp_path / "probe", Needs())
    assert engine.cancelled == ["1"]


def test_an_engine_that_is_full_is_told(tmp_path):
    class Full(Pretended):
        def submit(self, ticket):
            raise Busy("MaxSubmitJobs")

    with pytest.raises(UsageError, match="MaxSubmitJobs"):
        probe.ask(Full(lambda handle, ticket: GONE), tmp_path / "probe", Needs())


def test_a_new_file_that_is_seen_late_is_measured(tmp_path):
    begun = time.monotonic()
    findings = probe.ask(Answering(lambda folder: time.sleep(1.0)), tmp_path / "probe", Needs())
    assert 0.5 < findings.waited <= time.monotonic() - begun
