"""Children that are asked for JSON: whatever they print, however they end, the parent has an answer or a reason."""

import signal
import subprocess
import sys
import time

import pytest
from project import gone

from nmbench._util.child import Reply, ask

HEAD = "import os, sys, time\nfrom nmbench._util.child import answer, die_with_parent\ndie_with_parent()\n"


@pytest.fixture
def child(tmp_path):
    """Asks a child of these lines."""

    def run(*lines: str, timeout: float = 60.0) -> Reply:
        (tmp_path / "kid.py").write_text(HEAD + "\n".join(lines))
        return ask("kid", timeout=timeout, environment={"PYTHONPATH": str(tmp_path)})

    return run


@pytest.mark.parametrize(
    "noise",
    [
        "print('before'); answer({'a': 1}); print('after')",
        "answer({'a': 0}); answer({'a': 1})",
        "answer({'a': 1}); print('\\x1e' + '[' * 100_000); print('\\x1e[1]'); print('\\x1e3')",
        "answer({'a': 1}); print('\\x1e{\"a\": 2, \"b', end='')",
        "sys.stdout.buffer.write(b'\\xff\\xfe'); answer({'a': 1}); sys.stdout.buffer.write(b'\\xff')",
        "os.write(1, b'x' * 40_000_000); answer({'a': 1})",
        "answer({'a': 1}); [os.write(1, b'.') for _ in range(5000)]",
    ],
)
def test_the_last_whole_answer_counts_whatever_else_is_printed(child, noise):
    assert child(noise).answer == {"a": 1}


def test_a_child_that_dies_or_says_nothing_is_a_reason(child):
    assert child("sys.exit('boom')") == Reply([], "its process ended with status 1: boom")
    assert child("os._exit(7)") == Reply([], "its process ended with status 7: it said nothing")


def test_what_was_answered_before_its_time_was_up_is_kept(child):
    reply = child("answer({'a': 1})", "time.sleep(60)", timeout=3.0)
    assert reply == Reply([{"a": 1}], "it took more than 3 s")


def test_what_a_child_started_ends_with_it(child):
    begun = time.monotonic()
    kid = child("import subprocess", "answer({'pid': subprocess.Popen(['sleep', '60']).pid})").answer
    assert time.monotonic() - begun < 30, "the pipe that it holds open is not waited for"
    assert gone(kid["pid"])


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_a_child_dies_with_its_parent(tmp_path):
    (tmp_path / "kid.py").write_text(
        HEAD + "open('pid.new', 'w').write(str(os.getpid()))\nos.rename('pid.new', 'pid')\ntime.sleep(60)"
    )
    code = "from nmbench._util.child import ask; ask('kid')"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    while not (tmp_path / "pid").exists():
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(int((tmp_path / "pid").read_text()))
