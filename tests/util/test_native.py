"""C code that is compiled on first use."""

import shutil
from pathlib import Path

import pytest

from nmbench._util import native
from nmbench._util.native import NotCompiled, compiled

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("gcc", "cc", "clang"))), reason="no C compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NMBENCH_NATIVE", raising=False)
    file = tmp_path / "twice.c"
    file.write_text("int twice(int x) { return 2 * x; }\n")
    return file


def kept(source: Path) -> list[Path]:
    return sorted((source.parent / "cache" / "native").iterdir())


@needs_compiler
def test_it_is_compiled_once_and_anew_for_another_source_or_flag(source: Path) -> None:
    assert compiled(source).twice(21) == 42
    first = kept(source)
    made = first[0].stat().st_mtime_ns
    assert compiled(source).twice(4) == 8
    assert (kept(source), first[0].stat().st_mtime_ns) == (first, made)
    compiled(source, ["-DOTHER"])
    source.write_text("int twice(int x) { return x + x + 1; }\n")
    assert compiled(source).twice(1) == 3
    assert len([path for path in kept(source) if path.suffix == ".so"]) == 3
    assert all(path.name.startswith("twice-") for path in kept(source)), "nothing half made is left"


@needs_compiler
def test_what_fails_is_said_and_leaves_nothing(source: Path) -> None:
    source.write_text("int twice(int x) { return y; }\n")
    with pytest.raises(NotCompiled, match="failed: "):
        compiled(source)
    assert kept(source) == []


def test_reasons_without_a_compiler(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(NotCompiled, match="No such file"):
        compiled(source)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotCompiled, match="no C compiler was found"):
        compiled(source)
    monkeypatch.setenv("NMBENCH_NATIVE", "0")
    with pytest.raises(NotCompiled, match="NMBENCH_NATIVE=0"):
        compiled(source)


@needs_compiler
def test_a_folder_that_cannot_be_written_is_a_reason(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source.parent / "file").touch()
    monkeypatch.setenv("NMBENCH_CACHE", str(source.parent / "file"))
    with pytest.raises(NotCompiled):
        compiled(source)


@needs_compiler
def test_each_processor_has_an_object_of_its_own(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache folder may be shared by machines: an object of another one could hold instructions that this lacks."""
    compiled(source)
    monkeypatch.setattr(native, "_processor", lambda: "flags : another one")
    assert compiled(source).twice(21) == 42
    assert len([path for path in kept(source) if path.suffix == ".so"]) == 2
