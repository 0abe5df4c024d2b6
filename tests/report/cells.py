"""What a table shows, as texts."""

from nmbench.document.words import NBSP


def shown(table, *wanted):
    """The texts of a table by row, no-break spaces as spaces; of the row that begins with `wanted`, what follows."""
    rows = [[cell.text.replace(NBSP, " ") for cell in row] for row in table.rows]
    if not wanted:
        return rows
    (row,) = [row for row in rows if tuple(row[: len(wanted)]) == wanted]
    return row[len(wanted) :]
