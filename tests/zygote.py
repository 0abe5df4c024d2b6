"""A process that has imported torch already: `nmbench ...` and all the workers of a run are forks of it.

An interpreter that imports torch and its compiler takes eight seconds of a processor, a fork of one takes none. What a
fork runs is what `python -m nmbench ...` would: its environment, folder, session and pipes are those that were asked
for. Tests of the command line, the documentation, the engines and the isolation of plugins start real interpreters.
"""

import contextlib
import ctypes
import gc
import inspect
import json
import os
import runpy
import select
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

MODULES = ("nmbench", "nmbench.worker", "nmbench.sinks", "two_ranks")
_ASKED = inspect.signature(subprocess.Popen._execute_child)


def become(
    command: Sequence[str],
    folder: str | None,
    environment: Mapping[str, str],
    streams: Sequence[int],
    ready: Callable[[str], object] = lambda module: None,
) -> NoReturn:
    """Run `python -m MODULE ...`, as a process that was forked a moment ago; `ready` is called with MODULE before."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(15, command[2].encode())  # PR_SET_NAME: what /proc/PID/comm shows
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number, stream in enumerate([os.dup(stream) if stream >= 0 else -1 for stream in streams]):
            if stream >= 0:
                os.dup2(stream, number)
        os.closerange(3, 1024)
        if folder:
            os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        # the objects before them are not closed: these numbers would go with them
        sys.stdout = open(1, "w", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
        places = list(filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)))
        sys.path[:1] = [os.getcwd(), *places]
        for place in places:
            site.addsitedir(place)  # for packages that are installed there for editing
        sys.argv = list(command[2:])
        ready(command[2])
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Popen(subprocess.Popen):
    """subprocess.Popen that forks this process where the command is `python -m` one of MODULES."""

    def _execute_child(self, *arguments: Any) -> None:
        asked = _ASKED.bind(self, *arguments).arguments
        command = asked["args"]
        if isinstance(command, str) or list(command[:2]) != [sys.executable, "-m"] or command[2] not in MODULES:
            return super()._execute_child(*arguments)
        self._begin(asked, (asked["p2cread"], asked["c2pwrite"], asked["errwrite"]))
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in _PIPES))

    def _begin(self, asked: Mapping[str, Any], streams: Sequence[int]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            if asked["start_new_session"]:
                os.setsid()
            become(asked["args"], asked["cwd"], dict(asked["env"] or os.environ), streams, self.ready)

    def ready(self, module: str) -> None:
        """The fork is about to run `module`."""


_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class Remote(Popen):
    """The same by a fork of the zygote at the other end of `address`; it has no standard input."""

    def __init__(self, address: str, *arguments: Any, **options: Any) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(address)
        super().__init__(*arguments, **options)

    def _begin(self, asked: Mapping[str, Any], streams: Sequence[int]) -> None:
        order = {
            "command": list(map(str, asked["args"])),
            "folder": str(asked["cwd"] or Path.cwd()),
            "environment": dict(asked["env"] or os.environ),
        }
        given = [stream if stream >= 0 else number for number, stream in enumerate(streams)]
        socket.send_fds(self._line, [b"*"], given[1:])
        self._line.sendall(json.dumps(order).encode() + b"\n")
        self.pid = int(self._line.recv(20))

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        with contextlib.suppress(BlockingIOError):
            told = self._line.recv(20, socket.MSG_DONTWAIT if wait_flags else 0)
            return self.pid, int(told or signal.SIGKILL)
        return 0, 0

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
        return self.returncode


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """(the zygote, its address); it ends when its standard input is closed."""
    address = str(folder / "zygote")
    process = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process, address


def run(address: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`nmbench` with `arguments`; options are those of Popen."""
    command = [sys.executable, "-m", "nmbench", *arguments]
    with Remote(address, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _serve(address: str) -> NoReturn:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    lines: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([0, listener], [], [], 0.01)
        if 0 in ready:
            os._exit(0)
        if listener in ready:
            line, _ = listener.accept()
            pid = _fork(line)
            lines[pid] = line
        while lines:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            with contextlib.suppress(OSError), lines.pop(pid) as line:
                line.sendall(str(status).encode())


def _fork(line: socket.socket) -> int:
    _, streams, _, _ = socket.recv_fds(line, 1, 2)
    with line.makefile("rb") as file:
        order = json.loads(file.readline())
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDONLY)
        become(order["command"], order["folder"], order["environment"], [null, *streams])
    for stream in streams:
        os.close(stream)
    line.sendall(str(pid).encode())
    return pid


def warm_up() -> None:
    """Import what the forks need. The process must train nothing itself: threads do not survive a fork."""
    import torch

    import nmbench.cli
    import nmbench.report
    import nmbench.running.scheduler
    import nmbench.worker.cell
    import nmbench.worker.speed  # noqa: F401
    from nmbench.plan.catalogue import catalogue

    for point in entry_points(group="nmbench.methods"):  # which names there are, each fork finds out for itself
        point.load()
    catalogue()  # the sources that its hashes cover are read once
    torch.set_num_threads(1)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # with which torch imports its compiler
    gc.collect()
    gc.freeze()  # or each fork copies what it looks through


if __name__ == "__main__":
    if len(sys.argv) > 2:  # zygote.py ADDRESS nmbench ...: for a shell
        sys.exit(Remote(sys.argv[1], [sys.executable, "-m", *sys.argv[2:]]).wait())
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    warm_up()
    subprocess.Popen = Popen  # type: ignore[misc]
    _serve(sys.argv[1])
