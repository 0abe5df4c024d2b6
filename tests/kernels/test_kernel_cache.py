"""What timing found is kept on disk, for one machine; whatever is wrong with the file costs time and nothing else."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from convert_toys import Compressed, finalised, mlp, priced

from nmbench.kernels import cache, convert
from nmbench.kernels.cache import Kept, keeping

CPU = torch.device("cpu")
X = torch.randn(5, 24)


pytestmark = pytest.mark.usefixtures("own_cache")


def things() -> Kept[int]:
    return Kept("things", CPU, int, int)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"things"', '"others"'),
        lambda text: text.replace(": 64", ': "many"'),
        lambda text: text.replace(": 64", ": 1e999"),
        lambda text: "[" * 100_000,
    ],
)
def test_a_broken_file_is_a_note_and_written_anew(spoil):
    first = things()
    first.add({"a": 64})
    first.path.write_text(spoil(first.path.read_text()))
    second = things()
    assert second.read() == {}
    assert "could not be read" in second.note
    second.add({"b": 2})
    assert things().read() == {"b": 2}


def test_two_writers_keep_what_both_found():
    first, second = things(), things()
    assert (first.read(), second.read()) == ({}, {})
    first.add({"a": 1})
    second.add({"b": 2})
    assert things().read() == {"a": 1, "b": 2}
    many = [things() for _ in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: many[i].add({str(i): i}), range(len(many))))
    assert {one.note for one in many} == {""}
    assert not list(first.path.parent.glob(".*"))


def test_where_nothing_can_be_kept_nothing_is(tmp_path, monkeypatch):
    with keeping(False):
        things().add({"a": 1})
    assert not (tmp_path / "cache").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "file" / "cache"))
    file = things()
    file.add({"a": 1})
    assert (file.read(), "could not be kept" in file.note) == ({}, True)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache, "cache_dir", homeless)
    assert things().note == "the things cannot be kept: Could not determine home directory."


def test_a_kept_choice_is_checked_again_for_the_layer_at_hand():
    class Breaks(Compressed):
        broken = False

        def linear(self, x, packed, bias, problem):
            return super().linear(x, packed, bias, problem) + float(self.broken)

    model, backend = finalised(mlp()), Breaks()
    with priced(compressed=1.0):
        assert convert(model, X, backends=[backend])[1].rows[0].winner == "compressed"
        backend.broken = True
        _, report = convert(model, X, backends=[backend])
    assert report.rows[0].winner == "dense"
    assert "wrong numbers" in report.rows[0].reason
