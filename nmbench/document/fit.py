"""Tables that are too wide for a page become several, each with the columns that name the rows: `fit`."""

from __future__ import annotations

from dataclasses import replace

from nmbench.document.table import Column, Table

__all__ = ["fit", "heading"]

#: a column of text is wrapped by whoever shows it, so that its longest cell does not count
_WRAPPED = 22
_BETWEEN = 3


def heading(column: Column) -> str:
    """The column's title with its unit."""
    return f"{column.title} ({column.unit})" if column.unit else column.title


def fit(table: Table, width: int) -> list[Table]:
    """`table`, or as few parts of its columns as fit into `width` characters."""
    widths = [_width(table, place) for place in range(len(table.columns))]
    keys = list(range(min(table.keys, len(widths))))
    others = [place for place in range(len(widths)) if place not in keys]
    room = width - sum(widths[place] for place in keys)
    parts = _packed(others, widths, room)
    if len(parts) < 2:
        return [table]
    if len(parts[-1]) == 1:
        parts = _even(others, widths, room, len(parts))
    return [_part(table, [*keys, *part]) for part in parts]


def _even(places: list[int], widths: list[int], room: int, count: int) -> list[list[int]]:
    """`count` parts of about the same width: one column alone in the last part looks like a mistake."""
    narrow = max(widths[place] for place in places)
    packed = (_packed(places, widths, limit) for limit in range(narrow, room))
    return next((parts for parts in packed if len(parts) == count), _packed(places, widths, room))


def _packed(places: list[int], widths: list[int], room: int) -> list[list[int]]:
    parts: list[list[int]] = []
    left = 0
    for place in places:
        if not parts or widths[place] > left:
            parts.append([])
            left = room
        parts[-1].append(place)
        left -= widths[place]
    return parts


def _part(table: Table, places: list[int]) -> Table:
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in places), rows=rows)


def _width(table: Table, place: int) -> int:
    column = table.columns[place]
    texts = [heading(column), *(row[place].text for row in table.rows)]
    if column.align == "l":
        return max(min(len(text), max(_WRAPPED, _longest_word(text))) for text in texts) + _BETWEEN
    return max(map(len, texts)) + _BETWEEN


def _longest_word(text: str) -> int:
    # not split(): a no-break space holds its words together
    return max(map(len, text.split(" ")))
