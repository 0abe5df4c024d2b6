"""The report's inline markdown (emphasis, code, links, escapes) in other languages.

to_html, to_plain, walk
"""

from __future__ import annotations

from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["to_html", "to_plain", "walk"]

# html off: a tag in a stranger's text stays text
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def to_html(text: str) -> str:
    """Inline markdown as HTML; nothing in it becomes a tag but what markdown makes."""
    return str(_MARKDOWN.renderInline(text))


def to_plain(text: str) -> str:
    """Inline markdown without its marks."""
    return "".join(" " if token.type.endswith("break") else token.content for token in walk(text))


def walk(text: str) -> Iterator[Token]:
    """The tokens of inline markdown: text, code_inline, strong_open, link_open, ..."""
    for token in _MARKDOWN.parseInline(text):
        yield from token.children or ()
