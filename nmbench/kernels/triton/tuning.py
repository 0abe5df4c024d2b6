"""What the autotuner may choose from.

A call inside the capture of a CUDA graph cannot be timed. If its size was not tuned before, it takes the choice of the
nearest number of rows, and the size is tuned when it is next met outside. That choice's kernel is loaded already, since
no kernel here is compiled anew for another number of rows (unless their distance in memory ceases to be a multiple of
16). Of a weight that has not run yet nothing is loaded, and a capture may refuse to load it; the error then says what
to do.

Choices are kept on disk (nmbench.kernels.cache), for the GPU and the kernels' sources, by kernel and key. Triton would
keep them too, for all GPUs of one architecture, and would raise for a file that is broken.

The limits were read off the compile check for sm_80 and sm_90: they keep out what spills registers by hundreds of bytes
a thread, with few exceptions, and let tens of bytes through, which timing then judges. They were read for M <= 16.
"""

import functools
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton

from nmbench.kernels.cache import Kept
from nmbench.kernels.triton.expand import interpreted

#: warnings that were given in this process
_said: set[str] = set()
_BLOCKS = ("BLOCK_OUT", "BLOCK_ROWS", "BLOCK_K")


def tuned(tiles: list[tuple[int, int, int, int, int]], key: list[str]) -> Callable[[Any], Any]:
    """A decorator. key: the arguments by whose values a choice is kept, first of them "bucket" instead of "rows"."""

    def decorate(kernel: Any) -> Any:
        tuner = triton.autotune(
            configs=configs(tiles),
            key=key,
            prune_configs_by={"early_config_prune": prune},
            do_bench=_short_bench,
            cache_results=True,  # so that it asks:
        )(kernel)
        tuner.check_disk_cache = functools.partial(_kept_or_timed, tuner)
        plain = tuner.run

        def run(*args: Any, **kwargs: Any) -> Any:
            if not _capturing(args[0]):
                return plain(*args, **kwargs)
            about = _key(tuner, args, kwargs)
            chosen = about in tuner.cache
            if not chosen:
                given = dict(zip(tuner.arg_names, args, strict=False))
                tuner.cache[about] = nearest(about, tuner.cache, prune(tuner.configs, given, **kwargs))
            try:
                return plain(*args, **kwargs)
            except Exception as error:
                raise RuntimeError(
                    f"{tuner.base_fn.__name__} could not be started in the capture of a CUDA graph: run the model once "
                    "outside of it before, so that its kernels are compiled, loaded and tuned"
                ) from error
            finally:
                if not chosen:
                    del tuner.cache[about]

        tuner.run = run
        return tuner

    return decorate


def _kept_or_timed(tuner: Any, key: tuple[Any, ...], offered: list[triton.Config], time: Callable[[], None]) -> bool:
    """In place of the method of triton's autotuner: tuner.cache[key] gets a choice; was it kept? time: chooses anew."""
    file = Kept("tiles", tuner.nargs["x"].device, _tile, dict)
    name = json.dumps([tuner.base_fn.__name__, *key])
    kept = file.read().get(name)
    choice = next((config for config in offered if _tile(config.all_kwargs()) == kept), None)
    if choice is not None:
        tuner.cache[key], tuner.configs_timings = choice, {}
        return True
    time()
    file.add({name: _tile(tuner.cache[key].all_kwargs())})
    if file.note and file.note not in _said:
        _said.add(file.note)
        warnings.warn(file.note, stacklevel=2)
    return False


def _tile(choice: Any) -> dict[str, int]:
    return {name: int(choice[name]) for name in (*_BLOCKS, "num_warps", "num_stages")}


def _short_bench(call: Callable[[], Any], quantiles: Any) -> Any:
    """Milliseconds of warm-up and of timing a tile: at the default of 125 a layer would wait a second for its tiles."""
    return triton.testing.do_bench(call, warmup=3, rep=15, quantiles=quantiles)


def _capturing(x: torch.Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _key(tuner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Under which triton's autotuner keeps the choice for a call (a test holds it against triton's own)."""
    given = {name: value for name, value in {**dict(zip(tuner.arg_names, args, strict=False)), **kwargs}.items()
             if name in tuner.arg_names}  # fmt: skip
    dtypes = [str(value.dtype) for value in given.values() if hasattr(value, "dtype")]
    return (*(given[name] for name in tuner.keys if name in given), *dtypes)


def nearest(about: tuple[Any, ...], choices: Mapping[tuple[Any, ...], Any], offered: list[triton.Config]) -> Any:
    """The configuration known for a key that differs from `about` in its first part alone, a number of rows.

    The one whose logarithm is nearest; `offered[0]` if there is none.
    """
    alike = {key[0]: config for key, config in choices.items() if key[1:] == about[1:] and config in offered}
    if not alike:
        return offered[0]
    return alike[min(alike, key=lambda rows: (abs(rows.bit_length() - about[0].bit_length()), rows))]


def configs(tiles: list[tuple[int, int, int, int, int]]) -> list[triton.Config]:
    """tiles: (BLOCK_OUT, BLOCK_ROWS, BLOCK_K, warps, stages). BLOCK_K is 64 or more, as M may be 64."""
    if interpreted():
        tiles = [(16, 16, 64, 1, 1)]
    return [
        triton.Config(dict(zip(_BLOCKS, (out, rows, k), strict=True)), num_warps=warps, num_stages=stages)
        for out, rows, k, warps, stages in tiles
    ]


def fits(config: triton.Config, n: int, m: int, itemsize: int, *, convolution: bool) -> bool:
    """Whether a tile's sums and expanded weights, so many elements a thread, and its columns are within the limits."""
    tile = config.kwargs
    if tile["BLOCK_K"] > largest_k(m):
        return False
    threads = 32 * config.num_warps
    weights = tile["BLOCK_OUT"] * tile["BLOCK_K"] // threads
    sums = tile["BLOCK_OUT"] * tile["BLOCK_ROWS"] // threads
    return weights + sums <= _limit(n, m, itemsize, convolution) and (n <= 2 or weights < 64)


def largest_k(m: int) -> int:
    """Of a tile, in columns of the weight. The larger M, the fewer bytes a column has, and the fewer a row's load."""
    return 512 if m >= 8 else 128


def _limit(n: int, m: int, itemsize: int, convolution: bool) -> int:
    power = m & (m - 1) == 0
    if itemsize == 4 or (convolution and not power):  # float32 is summed without tensor cores
        return 40
    if n <= 2 and m <= 8 and power:
        return 128 if convolution else 160
    if convolution:
        return 64
    return 128 if n <= 2 and power else 96


def prune(offered: list[triton.Config], given: Mapping[str, Any], **constants: Any) -> list[triton.Config]:
    """`prune_configs_by` of triton.autotune: x, N and M of the call decide. At least one is left."""
    n, m, convolution = constants["N"], constants["M"], "KH" in constants
    left = [config for config in offered if fits(config, n, m, given["x"].element_size(), convolution=convolution)]
    return left or offered[:1]


def bucket(rows: int) -> int:
    """The least power of two >= rows, so that a batch of another size is not always tuned anew."""
    return 1 << max(rows - 1, 0).bit_length()
