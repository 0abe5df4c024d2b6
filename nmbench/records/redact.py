"""What a record may not tell: names of people and places, and secrets."""

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Any

_NAME = r"[^\s/'\",:;()\[\]{}<>|=]+"
#: an absolute path of two parts at least that is no part of a URL, and its last part
_PATH = re.compile(rf"(?<![\w/.:~*+-])/(?:{_NAME}/)+({_NAME})?")
_SECRETS = (
    (re.compile(r"\bfile://"), ""),
    (re.compile(r"(\w://)[^\s/@]+@"), r"\1***@"),
    (re.compile(r"(?i)((?:key|token|secret|password|passwd)=['\"]?)[^\s&'\",;)]+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer )[\w.~+/-]{8,}"), r"\1***"),
    (re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_|sk-)\w{16,}"), "***"),
)


def text(value: str, *, tell_apart: bool = False) -> str:
    """`value` without secrets, paths below the working folder made relative, the home folder ~, others their last part.

    tell_apart: two paths stay two, by a hash, as they must where they say what a cell is.
    """
    for pattern, instead in _SECRETS:
        value = pattern.sub(instead, value)
    if "/" not in value:
        return value
    with contextlib.suppress(OSError):  # the working folder is gone
        if len(here := os.getcwd()) > 1:
            value = value.replace(here + os.sep, "").replace(here, ".")
    if len(home := str(Path.home())) > 1:
        value = value.replace(home, "~")

    def short(found: re.Match[str]) -> str:
        digest = f"#{hashlib.sha256(found[0].encode(errors='replace')).hexdigest()[:6]}" if tell_apart else ""
        return f".../{found[1] or ''}{digest}"

    return _PATH.sub(short, value)


def whole(value: Any, *, tell_apart: bool = False) -> Any:
    """`value` with each of its texts redacted; keys stay."""
    if isinstance(value, str):
        return text(value, tell_apart=tell_apart)
    if isinstance(value, dict):
        return {key: whole(part, tell_apart=tell_apart or key == "cell") for key, part in value.items()}
    if isinstance(value, list):
        return [whole(part, tell_apart=tell_apart) for part in value]
    return value
