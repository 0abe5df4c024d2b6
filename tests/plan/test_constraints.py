"""constraints.txt names what the extras pull in, and nothing else (`make constraints` writes it)."""

import importlib.metadata
import runpy
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
#: installed by lines of their own, and what builds them
ALONE = {"fairseq", "wheel"}
tool = runpy.run_path(str(ROOT / "tools" / "constraints.py"))


def _names(text: str) -> set[str]:
    return {canonicalize_name(line.partition("==")[0]) for line in text.splitlines() if "==" in line}


def test_no_name_is_outside_what_the_extras_pull_in():
    usual, _, apart = (ROOT / "constraints.txt").read_text(encoding="utf-8").partition(tool["APART_HEAD"])
    absent = set()

    def requires(name: str) -> list[str] | None:
        try:
            return importlib.metadata.requires(name)
        except importlib.metadata.PackageNotFoundError:
            absent.add(name)
            return None

    known = tool["closure"](set(tool["extras"]()) - set(tool["APART"]), requires)
    assert not absent, "`make` installs them"
    assert _names(usual) == known | ALONE
    assert not _names(usual) & _names(apart)
