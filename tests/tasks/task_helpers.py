"""What the tests of several tasks share: stopping a training, and telling whether two things are equal to the bit."""

import hashlib
import random
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from nmbench.task import DataError


@contextmanager
def data_refused(message: str, root: Path | str = ""):
    """A DataError with `message` (a regular expression), which names `root`, in two lines at most."""
    with pytest.raises(DataError, match=message) as caught:
        yield
    assert str(root) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


class Interrupted(Exception):
    pass


def interrupt_at(update):
    """A heartbeat that stops the training at its step `update`."""

    def beat(step=None, **_):
        if step == update:
            raise Interrupted

    return beat


def same(first, second) -> bool:
    """Have two models equal names and bits?"""
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def generators():
    """The state of every global generator."""
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def bytes_of(folder: Path) -> str:
    """Names and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{p.relative_to(folder)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files)
