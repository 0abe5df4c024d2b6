"""Which status an exception stands for, by its class, its errno, and the words of those who have no class for it."""

import errno

import pytest

from nmbench.contract.run import InvalidResult
from nmbench.contract.spec import DataError
from nmbench.records.schema import Status
from nmbench.worker.failures import kind


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), Status.OOM),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Status.OOM),  # of fork or mmap
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), Status.OOM),
        (RuntimeError("CUDA error: out of memory"), Status.OOM),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Status.OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), Status.OOM),
        (RuntimeError("unable to mmap 12 bytes from file <x>: Cannot allocate memory (12)"), Status.OOM),
        (RuntimeError("can't start new thread"), Status.OOM),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), Status.OOM),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Segmentation fault. "), Status.ERROR),
        (OSError(errno.ENOSPC, "No space left on device"), Status.ERROR),
        (ValueError("out of memory of what was said"), Status.ERROR),
        (DataError("out of memory cards"), Status.DATA),
        (InvalidResult("x"), Status.INVALID),
        (KeyboardInterrupt(), Status.INTERRUPTED),
        (ImportError("x"), Status.IMPORT),
    ],
)
def test_the_kind_of_an_exception(error, status):
    assert kind(error) is status
