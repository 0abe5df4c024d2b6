"""Random streams that depend on the seed and on the place in training, never on the method or the pattern.

A sparse cell and its dense twin draw alike because every draw comes from (seed, epoch, index) or (seed, update).
"""

import hashlib
import random

import numpy as np


def stream(*keys: int | str) -> int:
    """A 63-bit seed from `keys`, the same on every machine (SHA-256 of their text)."""
    text = "/".join(map(str, keys)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(*keys: int | str) -> np.random.Generator:
    """A numpy generator of its own for `keys`, for instance (seed, epoch, index)."""
    return np.random.default_rng(stream(*keys))


def seed_all(*keys: int | str) -> None:
    """Set the global generators of Python, numpy and torch (all devices) from `keys`."""
    import torch

    value = stream(*keys)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
