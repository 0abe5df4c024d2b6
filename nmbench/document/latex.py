"""The report as LaTeX: `latex_files`, tables for a paper (booktabs), and a document that holds them all.

`report.tex` compiles beside the folders `tables` and `figures` with what every TeX has (booktabs, longtable, graphicx).
"""

from __future__ import annotations

import re
from functools import singledispatch

from nmbench.document.escape_latex import inline, plain
from nmbench.document.fit import fit, heading
from nmbench.document.model import Banner, Block, Bullets, Fold, Part, Picture, Prose, Report, Section, Shell
from nmbench.document.table import Cell, Table

__all__ = ["WIDTH", "latex_files", "latex_table"]

#: characters of a table at footnote size that fit a line
WIDTH = 112
#: a longer table must be allowed to break over pages
_MOST_ROWS = 40
#: a column of longer texts is wrapped
_MOST_TEXT = 30
_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{array}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage{graphicx}
\IfFileExists{float.sty}{\usepackage{float}\floatplacement{table}{H}\floatplacement{figure}{H}}{}
\setcounter{secnumdepth}{0}
\setlength{\tabcolsep}{4pt}
% a figure at its own size, smaller where it would not fit
\newcommand{\fitted}[1]{\setbox0=\hbox{\includegraphics{#1}}%
  \ifdim\wd0>\linewidth\def\toolarge{1}\else\ifdim\ht0>0.8\textheight\def\toolarge{1}\else\def\toolarge{0}\fi\fi
  \if1\toolarge\includegraphics[width=\linewidth,height=0.8\textheight,keepaspectratio]{#1}\else\box0\fi}
\sloppy
"""


def latex_files(report: Report) -> dict[str, str]:
    """Path in the report's folder -> text: every table, and report.tex."""
    found: dict[str, str] = {}
    body = "\n\n".join(_content(report, 0, found))
    title = plain(report.title)
    found["report.tex"] = (
        f"{_PREAMBLE}\\title{{{title}}}\n\\date{{}}\n\\begin{{document}}\n\\maketitle\n\n{body}\n\n\\end{{document}}\n"
    )
    return found


def latex_table(table: Table) -> str:
    """A floating table with its caption and notes; as many as it takes where it is too wide; a long one breaks."""
    parts = fit(table, WIDTH)
    return "\n".join(_part(part, table, place, len(parts)) for place, part in enumerate(parts, start=1))


def _content(part: Part, level: int, files: dict[str, str]) -> list[str]:
    found: list[str] = []
    for block in part.content:
        if isinstance(block, Section):
            command = ("section", "subsection", "subsubsection", "paragraph")[min(level, 3)]
            found += [f"\\{command}{{{plain(block.title)}}}", *_content(block, level + 1, files)]
        elif isinstance(block, Fold):
            found += [f"\\paragraph{{{plain(block.title)}}}", *_content(block, level, files)]
        elif isinstance(block, Table):
            files[f"tables/{block.name}.tex"] = latex_table(block)
            found.append(f"\\input{{tables/{block.name}}}")
        else:
            found.append(_block(block))
    return found


@singledispatch
def _block(block: Block) -> str:
    raise TypeError(f"{type(block).__name__} is no part of a report")


@_block.register
def _(block: Prose) -> str:
    return inline(block.text)


@_block.register
def _(block: Bullets) -> str:
    items = "\n".join(f"\\item {inline(item)}" for item in block.items)
    return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"


@_block.register
def _(block: Banner) -> str:
    return f"\\begin{{quote}}\n{inline(block.text)}\n\\end{{quote}}"


@_block.register
def _(block: Shell) -> str:
    lines = "\\\\\n".join(f"\\texttt{{{plain(line)}}}" for line in block.lines)
    return f"\\begin{{quote}}\n\\small\\raggedright\n{lines}\n\\end{{quote}}"


@_block.register
def _(block: Picture) -> str:
    caption = plain(f"{block.title}: {block.about}. {block.caption}")
    return f"\\begin{{figure}}\n\\centering\n\\fitted{{figures/{block.file}}}\n\\caption{{{caption}}}\n\\end{{figure}}"


def _part(part: Table, whole: Table, place: int, parts: int) -> str:
    about = f": {whole.about}" if whole.about else ""
    caption = plain(f"{whole.title}{about}{f' ({place} of {parts})' if parts > 1 else ''}")
    label = f"\\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', whole.name)}{f'-{place}' if parts > 1 else ''}}}"
    spec = "".join(_spec(part, column) for column in range(len(part.columns)))
    head = " & ".join(plain(heading(column)) for column in part.columns) + r" \\"
    rows = "\n".join(" & ".join(map(_cell, row)) + r" \\" for row in part.rows)
    notes = "".join(f"\n\\par\\smallskip {inline(note)}" for note in whole.notes) if place == parts else ""
    if len(part.rows) > _MOST_ROWS:
        return (
            f"{{\\footnotesize\n\\begin{{longtable}}{{{spec}}}\n\\caption{{{caption}}}{label}\\\\\n"
            f"\\toprule\n{head}\n\\midrule\n\\endfirsthead\n\\toprule\n{head}\n\\midrule\n\\endhead\n"
            f"\\bottomrule\n\\endlastfoot\n{rows}\n\\end{{longtable}}{notes}\n\\par}}\n"
        )
    notes = notes and f"\n\\begin{{minipage}}{{\\linewidth}}{notes}\n\\end{{minipage}}"
    return (
        f"\\begin{{table}}\n\\centering\\footnotesize\n\\caption{{{caption}}}{label}\n"
        f"\\begin{{tabular}}{{{spec}}}\n\\toprule\n{head}\n\\midrule\n{rows}\n\\bottomrule\n\\end{{tabular}}{notes}\n"
        "\\end{table}\n"
    )


def _spec(table: Table, place: int) -> str:
    """The column's letter; those with long texts share the width that the others leave."""
    if table.columns[place].align == "r":
        return "r"
    if _longest(table, place) <= _MOST_TEXT:
        return "l"
    everywhere = range(len(table.columns))
    wide = [other for other in everywhere if table.columns[other].align == "l" and _longest(table, other) > _MOST_TEXT]
    taken = sum(_longest(table, other) + 2 for other in everywhere if other not in wide)
    share = max(0.12, (0.96 - taken / WIDTH) / len(wide) - 0.02)
    return f">{{\\raggedright\\arraybackslash}}p{{{share:.2f}\\linewidth}}"


def _longest(table: Table, place: int) -> int:
    return max(len(text) for text in [heading(table.columns[place]), *(row[place].text for row in table.rows)])


def _cell(cell: Cell) -> str:
    shown = plain(cell.text)
    if cell.code and shown:
        # a path or a command has few places where a line may end
        shown = re.sub(r"([/-])(?!\{\})", r"\1\\allowbreak{}", shown)
        shown = rf"\texttt{{{shown}}}"
    return rf"\textbf{{{shown}}}" if cell.strong and shown else shown
