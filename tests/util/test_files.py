"""Files that are written whole: by several writers at once, some of which have the same process id elsewhere."""

import json

from nmbench._util.files import replacing, write_json


def test_two_writers_of_one_process_id_do_not_meet(tmp_path):
    path = tmp_path / "record.json"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1", "the last to finish"
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_what_cannot_be_json_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    try:
        write_json(path, {"a": float("nan")})
    except ValueError:
        pass
    else:
        raise AssertionError("a NaN was written")
    assert json.loads(path.read_text()) == {"a": 1}
