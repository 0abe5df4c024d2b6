"""The compiled passes of nmbench.sparsity are loaded once, from the user's cache: a cache of a test's own is empty.

own_cache   a fixture: NMBENCH_CACHE is a folder of the test's own
"""

import pytest

from nmbench.sparsity.fast import native

native.library()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))
