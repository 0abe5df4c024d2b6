"""A Ray cluster that is running: workstations with one folder, Kubernetes by KubeRay, clouds by `ray up`.

Nothing here starts or stops a Ray. A ticket is a detached actor that holds the resources while its command runs, so
that a driver may come and go; it gives them back some time after the command has ended, whoever looks.
"""

import os
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any

from nmbench._util.errors import UsageError, nearest
from nmbench.engines.engine import Fate, Needs, Phase, Ticket, Unreachable
from nmbench.records.schema import Status

_SPACE = "nmbench"  # of the actors' names
_OPTIONS = ("address", "cpus-per-task", "resource")
_PATIENCE_S = 2.0  # for the answers of all actors; one that has no place yet gives none
_REACH_S = 10.0
_RETRIES = 10  # of a name that an actor still has which is about to go
_KEPT_S = 60.0  # that an actor waits to be asked how its command ended


def _place() -> type:
    """The actor's class, made in a function so that it travels as a whole: its node may find no nmbench at once."""

    class Place:
        """Runs one command; the process dies with the actor, and the actor some time after the process."""

        def __init__(self, command: list[str], folder: str, log: str, variables: dict[str, str], kept: float) -> None:
            import ctypes
            import os
            import signal
            import subprocess
            import threading
            import time

            def die_with_the_actor() -> None:
                ctypes.CDLL(None).prctl(1, signal.SIGTERM)

            def start() -> subprocess.Popen[bytes]:
                environment = {**os.environ, **variables}
                with open(log, "ab") as out:
                    return subprocess.Popen(
                        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                        preexec_fn=die_with_the_actor,
                    )  # fmt: skip

            self.process, self.fault = None, ""
            try:
                self.process = start()
            except OSError as error:
                self.fault = str(error)

            def leave() -> None:
                if self.process is not None:
                    self.process.wait()
                time.sleep(kept)
                os._exit(0)

            threading.Thread(target=leave, daemon=True).start()

        def code(self) -> int | str | None:
            """Exit status, once there is one; or why it could not be started."""
            return self.fault if self.process is None else self.process.poll()

        def stop(self) -> None:
            """Ask the command to end."""
            if self.process is not None:
                self.process.terminate()

    return Place


class Ray:
    """See Engine. options: address (default: RAY_ADDRESS, else the one of this machine), resource (a custom one)."""

    name = "ray"
    chains = False

    def __init__(self, options: Mapping[str, str]) -> None:
        for key in options:
            if key not in _OPTIONS:
                raise UsageError(f"--engine {key}: Ray has no such option here{nearest(key, _OPTIONS)}")
        try:
            import ray
        except ImportError:
            raise UsageError("--on ray needs Ray: pip install 'nmbench[ray]'") from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray: Any = ray
        self._resource = options.get("resource")
        address = options.get("address") or os.environ.get("RAY_ADDRESS") or "auto"
        host, _, port = address.rpartition(":")
        try:
            if host and port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), _REACH_S).close()
            ray.init(address=address, namespace=_SPACE, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # OSError, RuntimeError, AuthenticationError: each in its own way
            why = type(error).__name__
            where = "on this machine" if address == "auto" else f"at {address}"
            raise UsageError(f"no Ray answers {where} ({why}); `ray start --head` here, or address=...") from None
        self.accelerated = ray.cluster_resources().get("GPU", 0) > 0
        self._actors: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}  # questions that are open
        self._placed: set[str] = set()

    def check(self, needs: Needs) -> None:
        """See Engine."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(it.get("CPU", 0) >= needs.cpus and it.get("GPU", 0) >= needs.gpus for it in nodes):
            most = max((int(it.get("GPU", 0)) for it in nodes), default=0)
            raise UsageError(f"no node of this Ray has {needs.cpus} CPUs and {needs.gpus} GPUs (at most {most} GPUs)")
        if self._resource and not any(self._resource in it for it in nodes):
            raise UsageError(f"--engine resource={self._resource}: no node of this Ray has it")

    def submit(self, ticket: Ticket) -> str:
        """See Engine. What another driver has submitted under that name is taken for it."""
        carried = {k: v for k, v in os.environ.items() if k == "PYTHONPATH" or k.startswith("NMBENCH_")}
        place = self._ray.remote(_place()).options(
            name=ticket.name,
            lifetime="detached",
            num_cpus=ticket.needs.cpus,
            num_gpus=ticket.needs.gpus,
            resources={self._resource: 1} if self._resource else None,
        )
        arguments = list(ticket.command), str(ticket.folder), str(ticket.log), carried, _KEPT_S
        self._placed.discard(ticket.name)
        for _ in range(_RETRIES):
            try:
                self._actors[ticket.name] = place.remote(*arguments)
                break
            except ValueError:  # the name is taken
                self._actors.pop(ticket.name, None)
                if not self._over(ticket.name):
                    break
                time.sleep(0.5)
        return ticket.name

    def _over(self, handle: str) -> bool:
        """Has the actor of that name nothing left to do? Then it goes."""
        try:
            actor = self._actor(handle)
            if self._ray.get(actor.code.remote(), timeout=_PATIENCE_S) is None:
                return False
        except self._ray.exceptions.GetTimeoutError:  # it has no place yet
            return False
        except (ValueError, self._ray.exceptions.RayActorError):
            return True
        self._gone(handle, "")
        return True

    def _actor(self, handle: str) -> Any:
        """Raises ValueError if there is none."""
        if handle not in self._actors:
            self._actors[handle] = self._ray.get_actor(handle, namespace=_SPACE)
        return self._actors[handle]

    def fates(self, handles: Collection[str]) -> dict[str, Fate]:
        """See Engine."""
        found = {}
        for handle in handles:
            try:
                if handle not in self._asked:
                    self._asked[handle] = self._actor(handle).code.remote()
            except ValueError:
                found[handle] = Fate(Phase.GONE, Status.CRASH, "Ray has lost its actor", again=True)
        asked = {handle: self._asked[handle] for handle in handles if handle not in found}
        try:
            ready, _ = self._ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE_S)
        except Exception as error:
            raise Unreachable(f"Ray does not answer ({type(error).__name__})") from None
        for handle, question in asked.items():
            found[handle] = self._answer(handle, question) if question in ready else Fate(self._phase(handle))
        return found

    def _phase(self, handle: str) -> Phase:
        """Of an actor that gave no answer now."""
        return Phase.RUNNING if handle in self._placed else Phase.WAITING

    def _answer(self, handle: str, question: Any) -> Fate:
        del self._asked[handle]
        try:
            code = self._ray.get(question)
        except self._ray.exceptions.ActorUnavailableError:  # for now
            return Fate(self._phase(handle))
        except self._ray.exceptions.RayError as error:  # its text holds addresses of machines
            return self._gone(handle, f"Ray has lost its actor ({type(error).__name__})", again=True)
        self._placed.add(handle)
        if code is None:
            return Fate(Phase.RUNNING)
        why = f"its node cannot start it: {code}" if isinstance(code, str) else f"its command ended with status {code}"
        return self._gone(handle, why)

    def _gone(self, handle: str, message: str, again: bool = False) -> Fate:
        if (actor := self._actors.pop(handle, None)) is not None:
            self._ray.kill(actor)  # which gives its resources back
        return Fate(Phase.GONE, Status.CRASH, message, again)

    def cancel(self, handles: Collection[str]) -> None:
        """See Engine."""
        asked = {}
        for handle in handles:
            try:
                asked[handle] = self._actor(handle).stop.remote()
            except ValueError:
                continue
        if not asked:
            return
        ready, _ = self._ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE_S)
        for handle, answer in asked.items():
            if answer not in ready:  # it has no place yet
                self._gone(handle, "")

    def known(self, prefix: str) -> dict[str, str]:
        """See Engine."""
        try:
            names = self._ray.util.list_named_actors()
        except Exception as error:
            raise Unreachable(f"Ray does not answer ({type(error).__name__})") from None
        return {name: name for name in names if name.startswith(prefix)}

    def close(self) -> None:
        """See Engine."""
        self._ray.shutdown()
