"""The campaign in short: one process, a few of each of its trials."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_campaign_in_short_finds_nothing(tmp_path):
    page = tmp_path / "page.md"
    command = [sys.executable, "-m", "tests.campaign", "--short", "--folder", str(tmp_path), "--page", str(page)]
    run = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "| processes killed (SIGKILL), at random moments and at system calls | 2 | 2 |" in page.read_text()
