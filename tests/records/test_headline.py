"""The brief reader says what the whole one does, whatever became of a file. `pytest tests/records/test_headline.py`"""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nmbench.records.reading import headline, parse
from nmbench.records.schema import UnreadableRecord

FILES = sorted((Path(__file__).parents[2] / "results" / "reference" / "quick").rglob("record.json"))
WHOLE = FILES[0].read_bytes()
#: in a section that the brief reader skips
SKIPPED = WHOLE.index(b'"fingerprint": "') + 20


def told(read, data):
    try:
        record = read(data)
    except UnreadableRecord as error:
        return str(error)
    return record.cell, record.cell_id, record.attempt, record.status, record.metrics, record.outcome, record.primary


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parts[-3])
def test_the_headline_of_a_record_is_that_of_the_whole(file):
    data = file.read_bytes()
    assert told(headline, data) == told(parse, data)
    assert headline(data).environment is None


@given(
    st.integers(0, len(WHOLE) - 1),
    st.integers(0, 2),
    st.binary(max_size=2) | st.sampled_from([b"\\q", b"\\ud800", b"\n", b"\0", b'"', b",", b"0", b"-", b"\xc3"]),
)
@example(SKIPPED, 1, b"\\q")  # an escape that JSON has not
@example(SKIPPED, 1, b"\\u0041")
@example(SKIPPED, 1, b"\\ud800")
@example(SKIPPED, 1, b"\xff")  # no UTF-8
@example(SKIPPED, 1, b"\n")
@example(SKIPPED, 1, "é".encode())
def test_a_damaged_record_is_read_by_both_or_by_none(place, cut, put):
    data = WHOLE[:place] + put + WHOLE[place + cut :]
    assert told(headline, data) == told(parse, data)


@pytest.mark.parametrize("depth", [100, 390, 600, 950, 3000])
@pytest.mark.parametrize("around", [(b"[", b"]"), (b'{"x":', b"}")])
def test_what_is_nested_in_a_skipped_section_is_read_by_both_or_by_none(depth, around):
    data = WHOLE.replace(b'{\n "', b'{\n "x": ' + around[0] * depth + b"1" + around[1] * depth + b',\n "', 1)
    assert told(headline, data) == told(parse, data)


@pytest.mark.parametrize("digits", [18, 4000, 4299, 4300, 4301, 6000])
def test_a_long_number_in_a_skipped_section_is_read_by_both_or_by_none(digits):
    data = WHOLE.replace(b'{\n "', b'{\n "x": ' + b"7" * digits + b',\n "', 1)
    assert told(headline, data) == told(parse, data)


@given(st.integers(0, len(WHOLE) - 3))
def test_a_record_that_was_cut_off_is_read_by_none(length):
    for read in (headline, parse):
        with pytest.raises(UnreadableRecord):
            read(WHOLE[:length])
