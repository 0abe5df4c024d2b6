"""The timing harness on the CPU, and its CUDA branch on a fake of the events, streams and graphs of torch."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nmbench.kernels import timing
from nmbench.kernels.timing import compare, copies, launch_floor, rotated

CPU = torch.device("cpu")


def test_every_candidate_is_timed_and_its_quartiles_are_in_order() -> None:
    x = torch.ones(64)
    found = compare({"one": [x.sum], "two": [x.sum, x.mean]}, CPU, budget_s=0.01)
    assert list(found) == ["one", "two"]
    for one in found.values():
        assert 0 < one.low <= one.us <= one.high
        assert one.how == "wall"
    assert found["two"].calls == 2 * found["one"].calls


def test_candidates_alternate_and_no_one_is_always_first() -> None:
    seen: list[str] = []
    compare({name: [lambda name=name: seen.append(name)] for name in "ab"}, CPU, budget_s=0.0)
    rounds = [seen[i : i + 2] for i in range(len(seen) - 10, len(seen), 2)]
    assert [sorted(pair) for pair in rounds] == [["a", "b"]] * 5
    assert {pair[0] for pair in rounds} == {"a", "b"}


def test_each_buffer_takes_its_turn() -> None:
    seen: list[int] = []
    compare({"x": [lambda i=i: seen.append(i) for i in range(3)]}, CPU, budget_s=0.0)
    assert seen == [0, 1, 2] * (len(seen) // 3)


def test_median_not_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    # one pass of 0.1 s among passes of 1 ms must not show
    ticks = iter([0.0, 0.001] + [0.0, 0.001] + [0.0, 0.1] + [0.0, 0.001] * 4)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    assert compare({"x": [lambda: None]}, CPU, budget_s=0.0)["x"].us == pytest.approx(1000.0)


def test_nothing_to_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="'empty'"):
        compare({"empty": []}, CPU)
    assert compare({}, CPU) == {}


def test_an_error_of_a_candidate_comes_through() -> None:
    def broken() -> None:
        raise RuntimeError("shape")

    with pytest.raises(RuntimeError, match="shape"):
        compare({"broken": [broken]}, CPU)


def test_copies_exceed_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    about = SimpleNamespace(L2_cache_size=50_000_000)
    fake = SimpleNamespace(get_device_properties=lambda device: about, mem_get_info=lambda device: (8e10, 8e10))
    monkeypatch.setattr(timing.torch, "cuda", fake)
    assert copies(32_000_000, gpu) * 32_000_000 > 2 * about.L2_cache_size
    assert copies(10**9, gpu) == 1
    assert copies(1, gpu) == 64
    assert copies(400_000, gpu, 512) * 400_000 >= 3 * about.L2_cache_size
    assert copies(1, gpu, 512) == 512
    assert copies(1, CPU) == 1
    fake.mem_get_info = lambda device: (80_000_000, 8e10)
    assert copies(10_000_000, gpu) == 2
    made = rotated(lambda: torch.zeros(1), 10_000_000, gpu)
    assert len({one.data_ptr() for one in made}) == 2


def test_a_floor_and_a_bandwidth_are_measured() -> None:
    assert launch_floor(CPU, budget_s=0.0) > 0
    found = timing.bandwidth(CPU, size=2**16, budget_s=0.0)
    assert found.best == max(found.copy, found.read) > 0


class _Cuda:
    """Streams do nothing, an event keeps the clock of calls, a graph keeps what was called while it was captured."""

    def __init__(self, capturable: bool, launch: float = 0.25, each: float | None = None) -> None:
        """launch: milliseconds of a plain call. each: of a call in a replay, which as a whole takes 1 ms if None."""
        self.now, self.capturing, self.capturable = 0.0, False, capturable
        self.launch, self.each = launch, each
        self.on_stream: Any = SimpleNamespace(wait_stream=lambda other: None)
        self.replays = self.held = 0
        self.captured: list[int] = []
        self.reset: list[Any] = []
        self.default_generators = [self]
        self.device_of_generator = "cpu"

    # what nmbench.kernels.timing asks for
    def device(self, device: object) -> Any:
        return contextlib.nullcontext()

    def Stream(self, index: int = 0) -> Any:
        return SimpleNamespace(wait_stream=lambda other: None)

    def graph_pool_handle(self) -> tuple[int, int]:
        return (0, 7)

    def _sleep(self, cycles: int) -> None:
        self.held += 1

    def current_stream(self) -> Any:
        return self.on_stream

    def set_stream(self, stream: Any) -> None:
        self.on_stream = stream

    def stream(self, stream: object) -> Any:
        return contextlib.nullcontext()

    def synchronize(self) -> None: ...

    def current_device(self) -> int:
        return 0

    def Event(self, enable_timing: bool) -> Any:
        event = SimpleNamespace(synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda end: end.at - event.at
        return event

    def CUDAGraph(self) -> Any:
        def replay() -> None:
            self.replays += 1
            self.now += 1.0 if self.each is None else self.each * self.captured[-1]

        return SimpleNamespace(replay=replay)

    @contextlib.contextmanager
    def graph(self, graph: object, pool: object, stream: object, capture_error_mode: str) -> Any:
        assert stream is timing._side_stream(0)
        self.capturing, before = True, self.on_stream
        self.captured.append(0)
        self.on_stream = self.Stream()
        try:
            yield
            self.on_stream = before  # as torch 2.11: not after an error
        finally:
            self.capturing = False

    def work(self) -> None:
        if self.capturing and not self.capturable:
            raise RuntimeError("operation not permitted when stream is capturing")
        if self.capturing:
            self.captured[-1] += 1
        else:
            self.now += self.launch


@pytest.fixture(autouse=True)
def _own_streams() -> Any:
    timing._side_stream.cache_clear()
    yield
    timing._side_stream.cache_clear()


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = SimpleNamespace(device="cpu", get_state=torch.Generator().get_state, reset=[])
    fake.graphsafe_set_state = fake.reset.append
    monkeypatch.setattr(timing.torch, "Generator", lambda device: SimpleNamespace(
        set_state=lambda state: None, graphsafe_get_state=lambda: "fresh"))  # fmt: skip
    return fake


@pytest.mark.parametrize("capturable", [True, False])
def test_a_gpu_replays_what_it_can_capture(
    monkeypatch: pytest.MonkeyPatch, generator: SimpleNamespace, capturable: bool
) -> None:
    cuda = _Cuda(capturable)
    cuda.default_generators = [generator]
    stream = cuda.on_stream
    monkeypatch.setattr(timing.torch, "cuda", cuda)
    ended: list[str] = []
    for name in ("end", "release"):
        name_of = {"end": "_cuda_endAllocateToPool", "release": "_cuda_releasePool"}[name]
        monkeypatch.setattr(timing.torch._C, name_of, lambda index, pool, name=name: ended.append(name), raising=False)
    found = compare({"x": [cuda.work, cuda.work]}, torch.device("cuda", 0), budget_s=0.0)["x"]
    if capturable:
        # 250 us a call: one pass of two calls fills a replay, which the fake makes 1 ms long
        assert (found.how, found.us) == ("cuda-graph", pytest.approx(500.0))
        assert cuda.replays >= found.calls / 2
        assert cuda.held == cuda.replays
        assert ended == []
        assert generator.reset == []
    else:
        assert (found.how, found.us) == ("cuda-events", pytest.approx(250.0))
        assert generator.reset == ["fresh"], "torch.randn would fail after this"
        assert cuda.on_stream is stream
        assert ended == ["end", "release"], "torch 2.11 leaves the allocator in the capture"


def test_a_replay_is_made_longer_where_plain_calls_were_mostly_launches(
    monkeypatch: pytest.MonkeyPatch, generator: SimpleNamespace
) -> None:
    cuda = _Cuda(True, launch=0.06, each=0.0051)
    cuda.default_generators = [generator]
    monkeypatch.setattr(timing.torch, "cuda", cuda)
    found = compare({"x": [cuda.work]}, torch.device("cuda", 0), budget_s=0.0)["x"]
    assert cuda.captured == [9, 99]  # 500 us at 60 and at 5.1 us a call
    assert found.us == pytest.approx(5.1)


def test_graphs_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = _Cuda(True)
    monkeypatch.setattr(timing.torch, "cuda", cuda)
    found = compare({"x": [cuda.work]}, torch.device("cuda", 0), budget_s=0.0, graph=False)["x"]
    assert found.how == "cuda-events"
    assert cuda.replays == 0


class _Queue:
    """A GPU with one queue: a call takes `cpu` to launch and `gpu` to run after what was queued before it."""

    def __init__(self) -> None:
        self.now = self.busy_until = 0.0

    def candidate(self, cpu: float, gpu: float) -> SimpleNamespace:
        def run():
            start = max(self.now, self.busy_until)
            for _ in range(8):
                self.now += cpu
                self.busy_until = max(self.now, self.busy_until) + gpu
            end = self.busy_until

            def wait():
                self.now = max(self.now, end)
                return end - start

            return wait

        return SimpleNamespace(run=run, calls=range(8), how="cuda-events")


def test_launches_do_not_hide_behind_another_candidates_work():
    queue = _Queue()
    both = timing._measure({"dense": queue.candidate(12e-6, 60e-6), "sparse": queue.candidate(70e-6, 40e-6)}, 0.05)
    alone = timing._measure({"sparse": _Queue().candidate(70e-6, 40e-6)}, 0.05)
    assert both["sparse"].us == pytest.approx(alone["sparse"].us, rel=0.01)
    assert both["sparse"].us > both["dense"].us
