"""What the autotuner is offered, and that what it chose is kept for the next process."""

import importlib
import warnings

import pytest
import torch

from nmbench.sparsity import NMPattern

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    from nmbench.kernels.triton import tuning

    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "_said", set())


def kernel_of(name: str):
    return getattr(importlib.import_module(f"nmbench.kernels.triton.{name}"), f"{name}_kernel")


def offered(kernel, n: int, m: int, dtype: torch.dtype) -> set[tuple[int, int, int]]:
    from nmbench.kernels.triton.tuning import prune

    taps = {"KH": 3, "KW": 3} if "KH" in kernel.fn.arg_names else {}
    left = prune(kernel.configs, {"x": torch.zeros(1, dtype=dtype)}, N=n, M=m, **taps)
    return {tuple(one.kwargs[f"BLOCK_{name}"] for name in ("OUT", "ROWS", "K")) for one in left}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("pattern", [(2, 4), (4, 8), (1, 16), (3, 5), (32, 64)])
@pytest.mark.parametrize("name", ["matmul", "split_k", "conv"])
def test_something_is_always_left(name: str, pattern: tuple[int, int], dtype: torch.dtype) -> None:
    assert offered(kernel_of(name), *pattern, dtype)


@pytest.fixture(params=["matmul", "split_k"])
def launching(request, monkeypatch: pytest.MonkeyPatch):
    """(name, launch(rows), kernel, tiles timed, launches): the autotuner as it is, without timing and launching."""
    kernel, timed, launched = kernel_of(request.param), [], []
    module = importlib.import_module(f"nmbench.kernels.triton.{request.param}")
    monkeypatch.setattr(kernel, "cache", {})
    monkeypatch.setattr(kernel, "_bench", lambda *a, config, **k: timed.append(config) or [-len(timed), 0.0, 0.0])
    monkeypatch.setattr(kernel.fn, "run", lambda *a, **k: launched.append(k))
    if request.param == "split_k":
        reduce = type("Reduce", (), {"__getitem__": lambda self, grid: lambda *a, **k: None})
        monkeypatch.setattr(module, "reduce_kernel", reduce())

    def launch(rows: int, outs: int = 8, depth: int = 16) -> None:
        x = torch.zeros(1, 1).expand(rows, depth)
        stored = (torch.zeros(outs * depth // 2), torch.zeros(outs * depth // 8, dtype=torch.uint8))
        getattr(module, request.param)(x, *stored, None, outs, NMPattern(2, 4))

    return request.param, launch, kernel, timed, launched


def test_columns_too_far_apart_are_copied_together() -> None:
    from nmbench.kernels.triton.expand import reachable

    far = torch.empty_strided((2, 3), (1, 2**30), device="meta")
    assert reachable(far).stride() == (3, 1)
    near = torch.empty_strided((2, 3), (1, 2**30 - 1), device="meta")
    assert reachable(near) is near


def test_a_choice_is_kept_for_the_next_process(launching, tmp_path) -> None:
    _, launch, kernel, timed, launched = launching
    launch(20)
    times, (choice,) = len(timed), kernel.cache.values()
    launch(20, outs=16)
    for _ in range(2):
        kernel.cache.clear()  # as in another process
        launch(20)
        launch(20, outs=16)
    assert len(timed) == 2 * times
    assert choice in kernel.cache.values()
    assert launched[-2].items() >= choice.all_kwargs().items()
    (path,) = (tmp_path / "cache" / "kernels").iterdir()
    assert path.name.startswith("tiles-")


def test_a_kept_tile_that_is_not_offered_any_more_is_timed_anew(launching, tmp_path) -> None:
    _, launch, kernel, timed, _ = launching
    launch(20)
    times = len(timed)
    (path,) = (tmp_path / "cache" / "kernels").iterdir()
    path.write_text(path.read_text().replace('"num_warps": ', '"num_warps": 3'))
    kernel.cache.clear()
    launch(20)
    assert len(timed) == 2 * times


def test_a_broken_file_is_said_once(launching, tmp_path) -> None:
    _, launch, kernel, timed, _ = launching
    launch(20)
    times = len(timed)
    (path,) = (tmp_path / "cache" / "kernels").iterdir()
    for expected in (pytest.warns(UserWarning, match="could not be read"), warnings.catch_warnings(action="error")):
        path.write_text("torn")
        kernel.cache.clear()
        with expected:
            launch(20)
    assert len(timed) == 3 * times
