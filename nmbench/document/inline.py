"""The report's inline markdown (emphasis, code, links, escapes) in other languages: `to_html`, `to_plain`."""

from markdown_it import MarkdownIt

# html off: a tag in a stranger's text stays text
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def to_html(text: str) -> str:
    """Inline markdown as HTML; nothing in it becomes a tag but what markdown makes."""
    return str(_MARKDOWN.renderInline(text))


def to_plain(text: str) -> str:
    """Inline markdown without its marks."""
    tokens = (token for inline in _MARKDOWN.parseInline(text) for token in inline.children or ())
    return "".join(" " if token.type.endswith("break") else token.content for token in tokens)
