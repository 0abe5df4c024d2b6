"""Signals that ask to end: the reason is told, the first one counts, and what was ignored stays so."""

import os
import signal
import time

import pytest

from nmbench.running.stops import Stop, Stopped, listening, raise_stopped, reason


@pytest.mark.parametrize(
    ("number", "environment", "stop"),
    [
        (signal.SIGINT, {}, Stop.CTRL_C),
        (signal.SIGHUP, {}, Stop.HANGUP),
        (signal.SIGTERM, {}, Stop.TERMINATED),
        (signal.SIGTERM, {"SLURM_JOB_ID": "1"}, Stop.CANCELLED),
        (signal.SIGTERM, {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "in a minute"}, Stop.TIME_LIMIT),
        (signal.SIGTERM, {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "in an hour"}, Stop.CANCELLED),
        (signal.SIGUSR1, {}, Stop.NOTICE),
        (signal.SIGUSR2, {"SLURM_JOB_ID": "1"}, Stop.NOTICE),
    ],
)
def test_the_reason_is_read_from_the_signal_and_the_job(number, environment, stop):
    times = {"in a minute": str(int(time.time()) + 60), "in an hour": str(int(time.time()) + 3600)}
    assert reason(number, {key: times.get(value, value) for key, value in environment.items()}) is stop


def test_the_first_signal_counts_and_the_handlers_come_back():
    before, heard = signal.getsignal(signal.SIGUSR1), []
    with listening(heard.append):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_run_under_nohup_does_not_hear_that_the_terminal_is_gone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening(raise_stopped):
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(Stopped, match="notice"):
                os.kill(os.getpid(), signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGHUP, before)
