"""How long a call takes on a device: several candidates measured side by side, so that drift hits all alike.

compare         candidates -> Timing, measured interleaved in rounds
Timing          median and quartiles of one call
copies          how many copies of a buffer exceed the last cache; rotated makes them
bandwidth       bytes a second, of a large copy and of a large read
launch_floor    the time of a kernel that does next to nothing

On a CPU the time is the thread's own (what other processes take is not in it) where torch uses one thread, else the
clock's. On a GPU the calls of one round are captured in a CUDA graph and replayed between two events, so no launch from
Python is in the figure. What cannot be captured is timed with events around plain calls; `how` says so.
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

__all__ = ["Timing", "affordable", "bandwidth", "compare", "copies", "last_cache", "launch_floor", "rotated"]

Call = Callable[[], object]
T = TypeVar("T")

#: one replay should take about this long, so that starting a graph is a small part of it
_REPLAY_US = 500.0
#: cycles that the GPU is kept busy before a replay, so that its start is queued before it begins
_HOLD = 100_000
_MOST_CALLS = 256
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 500
#: buffers together this many times the cache
_CACHES = 3
_MOST_COPIES = 64
#: of all copies together, on a CPU
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: `us` is the median over rounds, `low` and `high` are the quartiles.

    calls: how many were timed. how: "cuda-graph", "cuda-events" (plain calls, launches included), "cpu" (time of the
    one thread that ran) or "wall".
    """

    us: float
    low: float
    high: float
    calls: int
    how: str


def compare(
    candidates: Mapping[str, Sequence[Call]], device: torch.device, *, budget_s: float = 0.3, graph: bool = True
) -> dict[str, Timing]:
    """Time every candidate. Each is the same work on rotated buffers, one closure a buffer set.

    budget_s: seconds for all candidates together, warm-up and capture aside. graph: try CUDA graphs.
    Raises ValueError without a closure, and whatever a closure raises when it is called plainly.
    """
    if empty := [name for name, calls in candidates.items() if not calls]:
        raise ValueError(f"nothing to time for {', '.join(map(repr, empty))}")
    if device.type != "cuda":
        kind = _Thread if torch.get_num_threads() == 1 else _Wall
        plain = {name: kind(calls) for name, calls in candidates.items()}
        for one in plain.values():
            one.queue()
        return _measure(plain, budget_s)
    with torch.cuda.device(device), torch.inference_mode():
        return _measure({name: _on_gpu(calls, graph) for name, calls in candidates.items()}, budget_s)


def copies(bytes_each: int, device: torch.device, most: int = _MOST_COPIES, held: int | None = None) -> int:
    """How many buffers of `bytes_each` together exceed the last cache several times: from 1 to `most`.

    held: bytes that a whole model holds, which are enough together: smaller models stay in the cache when they run too.
    At most a quarter of a GPU's free memory is taken, and then fewer copies come back.
    """
    if device.type == "cuda":
        cache = int(torch.cuda.get_device_properties(device).L2_cache_size)
        free = torch.cuda.mem_get_info(device)[0] // 4
    else:
        cache, free = last_cache(), _MOST_BYTES
    enough = _CACHES * cache if held is None else min(_CACHES * cache, held)
    wanted = min(most, max(1, math.ceil(enough / max(1, bytes_each))))
    return max(1, min(wanted, free // max(1, bytes_each)))


@functools.cache
def last_cache() -> int:
    """Bytes of the processor's last cache; of a common one where the system does not say."""
    for level in (4, 3, 2):
        with contextlib.suppress(OSError, ValueError):
            text = Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size").read_text().strip()
            return int(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1)
    return 2**25


def rotated(
    make: Callable[[], T], bytes_each: int, device: torch.device, most: int = _MOST_COPIES, held: int | None = None
) -> list[T]:
    """`copies` results of `make`, each with memory of its own."""
    return [make() for _ in range(copies(bytes_each, device, most, held))]


def affordable(seconds_each: float, budget_s: float, most: int = _MOST_COPIES) -> int:
    """How many buffers, from 1 to `most`, the rounds of a measurement can go through within its budget."""
    return max(1, min(most, int(budget_s / (_LEAST_ROUNDS * max(seconds_each, 1e-9)))))


def bandwidth(device: torch.device, size: int | None = None, budget_s: float = 0.3) -> tuple[float, float]:
    """Bytes a second of a copy (bytes read and written both count) and of a read.

    size: of the buffers, in bytes; 2**30 on a GPU, 2**27 elsewhere, less where memory is short.
    """
    if size is None:
        size = min(2**30, torch.cuda.mem_get_info(device)[0] // 4) if device.type == "cuda" else 2**27
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    calls: dict[str, list[Call]] = {"copy": [lambda: target.copy_(source)], "read": [source.sum]}
    seconds = {name: timing.us / 1e6 for name, timing in compare(calls, device, budget_s=budget_s).items()}
    return 2 * source.nbytes / seconds["copy"], source.nbytes / seconds["read"]


def launch_floor(device: torch.device, budget_s: float = 0.1) -> float:
    """Microseconds of a kernel that writes one number: what no kernel of the same kind of launch gets below."""
    one = torch.zeros(1, device=device)
    return compare({"floor": [one.zero_]}, device, budget_s=budget_s)["floor"].us


class _Wall:
    """Calls on the CPU, timed by its clock."""

    how = "wall"

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = list(calls)

    def queue(self) -> None:
        """All calls; on a GPU on the current stream."""
        for call in self.calls:
            call()

    def run(self) -> Callable[[], float]:
        """One pass over the calls; the seconds of it, when asked."""
        start = time.perf_counter()
        self.queue()
        seconds = time.perf_counter() - start
        return lambda: seconds


class _Thread(_Wall):
    """Calls on the CPU that run in this thread alone, timed by what it used of a processor."""

    how = "cpu"

    def run(self) -> Callable[[], float]:
        """As above."""
        start = time.thread_time()
        self.queue()
        seconds = time.thread_time() - start
        return lambda: seconds


class _Events(_Wall):
    """Calls on a GPU, between two events."""

    how = "cuda-events"

    def run(self) -> Callable[[], float]:
        """Queue one pass; the seconds of it, when asked (which waits for the GPU)."""
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        self.queue()
        end.record()

        def seconds() -> float:
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        return seconds


class _Replay(_Events):
    """The same calls as a CUDA graph."""

    how = "cuda-graph"

    def __init__(self, calls: Sequence[Call], pool: Any) -> None:
        super().__init__(calls)
        self.graph = torch.cuda.CUDAGraph()
        stream = _side_stream(torch.cuda.current_device())  # torch's own default is a stream of the first GPU used
        with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            super().queue()

    def run(self) -> Callable[[], float]:
        """Queue a replay behind some waiting; the seconds of the replay, when asked."""
        torch.cuda._sleep(_HOLD)  # type: ignore[no-untyped-call]
        return super().run()

    def queue(self) -> None:
        """The replay of all calls."""
        self.graph.replay()


@functools.cache
def _side_stream(index: int) -> torch.cuda.Stream:
    """One a GPU: freed memory is kept by stream, so that with a new one each time it would pile up."""
    return torch.cuda.Stream(index)  # type: ignore[no-untyped-call]


def _on_gpu(calls: Sequence[Call], graph: bool) -> _Events:
    """Warm up on a side stream, as a capture wants it, and capture as many calls as make a replay long enough."""
    side = _side_stream(torch.cuda.current_device())
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # the first call may compile or tune
            _Events(calls).queue()
        each = 1e6 * _Events(calls).run()() / len(calls)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    many = list(calls) * _passes(each, len(calls))
    replay = _captured(many) if graph else None
    if replay is not None:
        replay.run()()
        longer = list(calls) * _passes(1e6 * replay.run()() / len(many), len(calls))
        if len(longer) >= 2 * len(many):  # `each` was mostly the launch from Python
            replay = _captured(longer) or replay
    return replay or _Events(many)


def _passes(each_us: float, calls: int) -> int:
    return max(1, min(math.ceil(_REPLAY_US / max(each_us, 1e-3) / calls), _MOST_CALLS // calls))


def _captured(calls: Sequence[Call]) -> _Replay | None:
    """None if they cannot be captured, for whatever reason a library has: plain calls tell the time as well."""
    index = torch.cuda.current_device()
    generator, pool = torch.cuda.default_generators[index], torch.cuda.graph_pool_handle()
    state, stream = generator.get_state(), torch.cuda.current_stream()
    try:
        return _Replay(calls, pool)
    except Exception:
        torch.cuda.set_stream(stream)  # torch 2.11 leaves the capture's own current
        torch.cuda.synchronize()
        with contextlib.suppress(Exception):  # and its allocator in the capture; a later torch raises here, rightly
            torch._C._cuda_endAllocateToPool(index, pool)
            torch._C._cuda_releasePool(index, pool)
        # a capture that failed leaves the generator waiting for its end, and torch.randn would fail from then on
        fresh = torch.Generator(generator.device)
        fresh.set_state(state)
        generator.graphsafe_set_state(fresh.graphsafe_get_state())
        return None


def _measure(timed: Mapping[str, _Wall], budget_s: float) -> dict[str, Timing]:
    """Rounds over all candidates, each round beginning with another one."""
    names = list(timed)
    if not names:
        return {}
    first = sum(timed[name].run()() for name in names)
    rounds = max(_LEAST_ROUNDS, min(_MOST_ROUNDS, int(budget_s / max(first, 1e-9))))
    for _ in range(min(rounds, 1 + int(0.1 * budget_s / max(first, 1e-9)))):  # clocks rise before the first figure
        for name in names:
            timed[name].run()()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        begin = turn % len(names)
        pending = []
        for name in names[begin:] + names[:begin]:
            wait = timed[name].run()
            if timed[name].how == _Replay.how:  # started from a queue that is not empty, its start costs nothing
                pending.append((name, wait))
            else:  # plain calls queued behind another's work would hide their launches in its shadow
                seconds[name].append(wait())
        for name, wait in pending:
            seconds[name].append(wait())
    return {name: _timing(seconds[name], len(timed[name].calls), timed[name].how) for name in names}


def _timing(seconds: Sequence[float], calls: int, how: str) -> Timing:
    each = [1e6 * value / calls for value in seconds]
    low, middle, high = statistics.quantiles(each, n=4, method="inclusive")
    return Timing(middle, low, high, calls * len(each), how)
