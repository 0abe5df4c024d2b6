"""NMPattern: text in, text out, and words for what is wrong."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmbench.sparsity import NMPattern


def test_every_pattern_up_to_64_round_trips():
    every = [NMPattern(n, m, axis) for m in range(1, 65) for n in range(1, m + 1) for axis in ("input", "kernel")]
    assert [NMPattern.parse(str(p)) for p in every] == every
    assert len({str(p) for p in every}) == len(every) == 2 * 64 * 65 // 2


def test_a_pattern_parses_to_itself():
    p = NMPattern(2, 4)
    assert NMPattern.parse(p) is p


def test_fields_are_what_the_text_says():
    p = NMPattern.parse("4:8@kernel")
    assert (p.n, p.m, p.axis) == (4, 8, "kernel")
    assert NMPattern.parse("2:4").axis == "input"


def test_density_and_index_bits():
    assert NMPattern.parse("1:16").density == 1 / 16
    assert [NMPattern(1, m).index_bits for m in (1, 2, 3, 4, 5, 8, 16, 64)] == [0, 1, 2, 2, 3, 3, 4, 6]


def test_hash_equality_and_pickle():
    assert len({NMPattern(2, 4), NMPattern.parse("2:4"), NMPattern.parse("2:4@input")}) == 1
    assert pickle.loads(pickle.dumps(NMPattern(2, 4, "kernel"))) == NMPattern(2, 4, "kernel")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5:4", "N must lie between 1 and M"),
        ("0:4", "N must lie between 1 and M"),
        ("0:0", "N must lie between 1 and M"),
        ("2:65", "at most 64"),
        ("2:" + "9" * 5000, "at most 64"),
        ("2:4@output", "use 'input' or 'kernel'"),
        ("2:4@", "write N:M"),
        ("2-4", "write N:M"),
        ("", "write N:M"),
        ("2:4:8", "write N:M"),
        ("-2:4", "write N:M"),
        ("2.0:4", "write N:M"),
        ("²:4", "write N:M"),
        ("٢:٤", "write N:M"),
        (None, "write N:M"),
        (24, "write N:M"),
        ((2, 4), "write N:M"),
    ],
)
def test_bad_text_says_what_is_wrong(text, says):
    with pytest.raises(ValueError, match="pattern") as caught:
        NMPattern.parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(("n", "m"), [(2.0, 4), (True, 4), (2, "4"), (None, 4)])
def test_fields_must_be_integers(n, m):
    with pytest.raises(ValueError, match="must be an integer"):
        NMPattern(n, m)


@given(st.text(max_size=8))
def test_any_text_is_a_pattern_or_a_value_error(text):
    try:
        p = NMPattern.parse(text)
    except ValueError:
        return
    assert 1 <= p.n <= p.m <= 64
