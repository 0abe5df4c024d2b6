"""Tables as LaTeX for a paper (booktabs): `latex_files`, `latex_table`; and any text that compiles: `escaped`."""

import re

from nmbench.document.inline import to_plain
from nmbench.document.model import Report, tables
from nmbench.document.table import Cell, Column, Table

#: a longer table must be allowed to break over pages
_MOST_ROWS = 40
#: a column of longer texts is wrapped
_MOST_TEXT = 30


class _Signs(dict[int, str]):
    """For str.translate: what the fonts of pdflatex have no sign for is written as its code point."""

    def __missing__(self, code: int) -> str:
        return chr(code) if 0x20 <= code < 0x7F else rf"\texttt{{U+{code:04X}}}"


_SIGNS = _Signs(
    {ord(letter): f"\\{letter}" for letter in "&%$#_{}"}
    | {ord(letter): " " for letter in "\t\n\r"}
    | {0: "{}"}
    | {
        ord(letter): rf"\text{name}{{}}"
        for letter, name in {
            **{"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"},
            **{'"': "quotedbl", "`": "asciigrave", "'": "quotesingle"},
        }.items()
    }
    | {
        ord(letter): f"$\\{name}$"
        for letter, name in {
            **{"↑": "uparrow", "↓": "downarrow", "→": "rightarrow", "±": "pm", "×": "times", "≤": "leq", "≥": "geq"},
            **{"·": "cdot", "…": "dots", "µ": "mu", "λ": "lambda"},
        }.items()
    }
    | {ord("\N{NO-BREAK SPACE}"): "~", ord("\N{MINUS SIGN}"): "$-$", ord("–"): "--", ord("—"): "---"}
)


def escaped(text: str) -> str:
    """Plain text: whatever a stranger wrote compiles, and commands nothing."""
    # two hyphens or commas would become one sign; a hyphen before a number is a minus
    broken = re.sub(r"([-,])(?=\1)", "\\1\0", text.replace("\0", " "))
    return re.sub(r"(?<![\w\0-])-(?=\d)", "\N{MINUS SIGN}", broken).translate(_SIGNS)


def latex_files(report: Report) -> dict[str, str]:
    """Path in the report's folder -> text, of every table."""
    return {f"tables/{table.name}.tex": latex_table(table) for table in tables(report)}


def latex_table(table: Table) -> str:
    """A floating table with its caption and notes; a long one breaks over pages."""
    about = f": {table.about}" if table.about else ""
    caption = rf"\caption{{{escaped(table.title + about)}}}"
    label = rf"\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', table.name)}}}"
    spec = "".join(_spec(table, place) for place in range(len(table.columns)))
    head = " & ".join(escaped(column.heading) for column in table.columns) + r" \\"
    rows = "\n".join(" & ".join(map(_cell, row)) + r" \\" for row in table.rows)
    notes = "".join(f"\\par\\smallskip {escaped(to_plain(note))}\n" for note in table.notes)
    if len(table.rows) > _MOST_ROWS:
        return (
            f"{{\\footnotesize\n\\begin{{longtable}}{{{spec}}}\n{caption}{label}\\\\\n\\toprule\n{head}\n\\midrule\n"
            f"\\endhead\n\\bottomrule\n\\endlastfoot\n{rows}\n\\end{{longtable}}\n{notes}\\par}}\n"
        )
    return (
        f"\\begin{{table}}\n\\centering\\footnotesize\n{caption}{label}\n\\begin{{tabular}}{{{spec}}}\n\\toprule\n"
        f"{head}\n\\midrule\n{rows}\n\\bottomrule\n\\end{{tabular}}\n{notes}\\end{{table}}\n"
    )


def _spec(table: Table, place: int) -> str:
    """The column's letter; one with long texts is wrapped at a quarter of the line."""
    column: Column = table.columns[place]
    longest = max(len(text) for text in [column.heading, *(row[place].text for row in table.rows)])
    return "p{0.25\\linewidth}" if column.align == "l" and longest > _MOST_TEXT else column.align


def _cell(cell: Cell) -> str:
    shown = escaped(cell.text)
    if cell.code and shown:
        # a path or a command has few places where a line may end
        shown = re.sub(r"([/-])(?!\{\})", r"\1\\allowbreak{}", shown)
        shown = rf"\texttt{{{shown}}}"
    return rf"\textbf{{{shown}}}" if cell.strong and shown else shown
