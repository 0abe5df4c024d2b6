"""What mkdocs does beyond the pages: parts that come from the code, and the READMEs of the tasks.

on_page_markdown    `<!-- generated: NAME -->` in a page becomes what `from_code.PARTS[NAME]()` says
on_files            each tasks/<family>/README.md is a page, tasks/<family>.md
on_config           they stand in the navigation
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from from_code import PARTS  # mkdocs puts the folder of this file on the path
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

_MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _readmes(config: MkDocsConfig) -> dict[str, Path]:
    """Page -> README, of every task family that has one."""
    found = sorted(Path(config.config_file_path).parent.glob("tasks/*/README.md"))
    return {f"tasks/{path.parent.name}.md": path for path in found}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the pages of the tasks at the end of the navigation."""
    pages: list[Any] = list(_readmes(config))
    if config.nav is not None and pages:
        config.nav = [*config.nav, {"Built-in tasks": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the READMEs in."""
    for page, readme in _readmes(config).items():
        files.append(File.generated(config, page, content=_moved(readme, Path(config.docs_dir))))
    return files


def _moved(readme: Path, docs: Path) -> str:
    """The README's text, as it reads below docs/tasks/: links into docs/ are kept, other files are only named."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups()
        if "://" in target:
            return found[0]
        place = (readme.parent / target).resolve()
        if place.is_relative_to(docs.resolve()):
            return f"{picture}[{words}](../{place.relative_to(docs.resolve())}{anchor or ''})"
        if place.name == "README.md" and place.parent.parent == readme.parent.parent:
            return f"[{words}]({place.parent.name}.md{anchor or ''})"
        return f"{words} (`{place.relative_to(docs.resolve().parent)}`)"

    return _LINK.sub(link, readme.read_text(encoding="utf-8"))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts in. Raises PluginError for a name that no part has."""

    def part(found: re.Match[str]) -> str:
        if found[1] not in PARTS:
            raise PluginError(f"no generated part {found[1]!r}; there are: {', '.join(PARTS)}")
        return PARTS[found[1]]()

    return _MARK.sub(part, markdown)
