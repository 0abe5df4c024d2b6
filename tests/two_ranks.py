"""Two processes that train together, forks of the zygote: `python -m two_ranks MODULE FUNCTION FOLDER`.

Each calls FUNCTION(rank, FOLDER), with the environment that a launcher gives (RANK, WORLD_SIZE, MASTER_ADDR, ...).
"""

import importlib
import os
import socket
import sys
from pathlib import Path

import torch
from torch import multiprocessing


def _rank(rank: int, module: str, function: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    getattr(importlib.import_module(module), function)(rank, Path(folder))


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ.update(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    importlib.import_module(sys.argv[1])  # once for both
    multiprocessing.start_processes(_rank, tuple(sys.argv[1:]), nprocs=2, start_method="fork")
