"""The code blocks of the documentation, and how they are run as a reader would run them.

Block     one fenced block: language, text, line, why it is not run, and the output that the page shows for it
blocks    page -> its blocks, in order
Reader    a folder and a terminal of its own: runs `sh` and `python` blocks one after the other
missing   what the shown output promises and the real one lacks

A block directly below `<!-- not run: reason -->` is not run. A `text` block directly below a block that ran is the
output that the page promises: each of its lines must come in the real output, in that order. `...` stands for anything,
and in the output of a command a number stands for any other, since times and accuracies vary.
"""

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

_NOT_RUN = re.compile(r"<!-- not run: (\S.*?) -->\s*")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_TIMEOUT = 240  # seconds a block may take


@dataclass(frozen=True)
class Block:
    """One fenced block. `skip` is the reason not to run it, `output` what the page shows for it; "" where none is."""

    language: str
    text: str
    line: int
    skip: str = ""
    output: str = ""


def blocks(page: Path) -> list[Block]:
    """The `sh` and `python` blocks of a page."""
    found: list[Block] = []
    before = None
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.map:
            language = token.info.strip()
            if language in ("sh", "python"):
                why = _NOT_RUN.fullmatch(before.content) if before is not None and before.type == "html_block" else None
                found.append(Block(language, token.content, token.map[0] + 1, why[1] if why else ""))
            elif language == "text" and before is not None and before.type == "fence" and found:
                found[-1] = replace(found[-1], output=token.content)
        before = token
    return found


class Reader:
    """Runs blocks in `folder`. `cd` in one block holds in the next; the python blocks share their names."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._where = folder / ".where"
        self._environment = dict(environment)
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block, page: Path) -> str:
        """What the block printed. Raises AssertionError if a shell block fails, and whatever a python block raises."""
        return self._shell(block, page) if block.language == "sh" else self._python(block, page)

    def _shell(self, block: Block, page: Path) -> str:
        script = f"trap 'pwd > {self._where}' EXIT\n{block.text}"
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:{block.line}: exit status {done.returncode}\n{done.stdout}"
        self.folder = Path(self._where.read_text().strip())
        return done.stdout

    def _python(self, block: Block, page: Path) -> str:
        code = compile("\n" * block.line + block.text, str(page), "exec")  # a traceback names the page's line
        before, printed = os.getcwd(), io.StringIO()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(printed):
                exec(code, self._names)
        finally:
            os.chdir(before)
        return printed.getvalue()


def missing(shown: str, real: str, exact: bool = False) -> list[str]:
    """The first line of `shown` that does not come in `real` in its place; empty if all do.

    With `exact` numbers count. Runs of spaces are one.
    """

    def plain(line: str) -> str:
        return " ".join((line if exact else _NUMBER.sub("0", line)).split())

    lines = iter([plain(line) for line in real.splitlines()])
    for line in shown.splitlines():
        wanted = re.escape(plain(line)).replace(re.escape("..."), ".*")
        if line.strip() not in ("", "...") and not any(re.fullmatch(wanted, one) for one in lines):
            return [line]
    return []
