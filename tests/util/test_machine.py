"""What a process was given of its machine: GPUs under whatever name, and cores."""

import os
import subprocess

import pytest

from nmbench._util import machine

CARDS = "0, A100, 550.1, GPU-8a1b-00\n1, H100, 550.1, GPU-9c2d-11\n"
LISTED = """GPU 0: A100 (UUID: GPU-8a1b-00)
  MIG 1g.5gb      Device  0: (UUID: MIG-5c)
  MIG 2g.10gb     Device  1: (UUID: MIG-6d)
GPU 1: H100 (UUID: GPU-9c2d-11)
"""


@pytest.fixture
def visible(tmp_path, monkeypatch):
    """The GPUs by CUDA_VISIBLE_DEVICES, with a stand-in nvidia-smi."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\nif [ "$1" = -L ]; then cat <<X\n{LISTED}X\nelse cat <<X\n{CARDS}X\nfi\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def ask(devices: str | None) -> list[tuple[str, str]]:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if devices is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        return [(gpu["index"], gpu["name"]) for gpu in machine.gpus()]

    return ask


@pytest.mark.parametrize(
    ("devices", "found"),
    [
        (None, [("0", "A100"), ("1", "H100")]),
        ("", []),
        ("1,0", [("1", "H100"), ("0", "A100")]),
        ("GPU-9c2d", [("GPU-9c2d", "H100")]),
        ("GPU-8a1b-00,1", [("GPU-8a1b-00", "A100"), ("1", "H100")]),
        ("MIG-6d", [("MIG-6d", "A100 MIG 2g.10gb")]),
        ("7,0", []),
        ("0,-1,1", [("0", "A100")]),
    ],
)
def test_gpus_are_those_that_cuda_will_see_and_in_its_order(visible, devices, found):
    assert visible(devices) == found


def test_without_a_driver_there_are_none(monkeypatch):
    def none(*arguments, **options):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "run", none)
    assert machine.gpus() == []


@pytest.mark.parametrize(("variables", "cores"), [({}, 8), ({"SLURM_CPUS_PER_TASK": "2"}, 2),
                                                  ({"SLURM_CPUS_ON_NODE": "3"}, 3),
                                                  ({"SLURM_CPUS_PER_TASK": "64"}, 8)])  # fmt: skip
def test_cores_are_those_that_were_given(monkeypatch, variables, cores):
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert machine.cores() == cores
