"""Judgements on the results folder of a test."""

import pytest

from nmbench.analysis.rows import compare
from nmbench.claims import judge
from nmbench.records.frame import load


@pytest.fixture
def verdicts(results):
    """The verdicts of the results folder that are about records, of one claim."""

    def of(claim):
        loaded = load(results.folder)
        assert loaded.unreadable == []
        return [one for one in judge(loaded, compare(loaded.frame)) if claim in (None, one.claim)]

    return of
