"""The compiled passes of nmbench.sparsity are loaded once, from the tests' cache: a cache of a test's own is empty.

own_cache   a fixture: NMBENCH_CACHE is a folder of the test's own
"""

import pytest

from nmbench.sparsity.fast import native


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    native.library()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))
