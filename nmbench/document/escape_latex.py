"""Text and inline markdown in LaTeX: `plain`, `inline`. Whatever a stranger wrote compiles, and commands nothing."""

from __future__ import annotations

import re
import unicodedata

from nmbench.document.inline import walk

__all__ = ["inline", "plain"]

_SPECIAL = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "`": r"\textasciigrave{}",
    },
    "'": r"\textquotesingle{}",
    **{"\N{NO-BREAK SPACE}": "~", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$"},
    **{"±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "\N{MINUS SIGN}": r"$-$", "·": r"$\cdot$"},
    **{"…": r"\dots{}", "–": "--", "—": "---", "µ": r"\textmu{}", "λ": r"$\lambda$"},
    **{"▲": r"$\bigtriangleup$", "▼": r"$\bigtriangledown$", "●": r"$\bullet$", "◇": r"$\diamond$"},
}
_OPEN = {"strong_open": r"\textbf{", "em_open": r"\emph{"}


def plain(text: str) -> str:
    """Plain text. What the fonts of pdflatex have no sign for is written as its code point."""
    # two hyphens or commas would become one sign; a hyphen before a number is a minus
    escaped = re.sub(r"([-,])(?=\1)", r"\1{}", "".join(map(_sign, text)))
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def inline(text: str) -> str:
    """Inline markdown; links keep their text only."""
    found = []
    for token in walk(text):
        if token.type in _OPEN:
            found.append(_OPEN[token.type])
        elif token.type in ("strong_close", "em_close"):
            found.append("}")
        elif token.type == "code_inline":
            found.append(rf"\texttt{{{plain(token.content)}}}")
        elif token.type in ("softbreak", "hardbreak"):
            found.append(" ")
        else:
            found.append(plain(token.content))
    return "".join(found)


def _sign(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if " " <= letter <= "~":
        return letter
    if "\u00c0" <= letter <= "\u017e" and unicodedata.category(letter) in ("Lu", "Ll") and letter not in "ĸŀŉĿ":
        return letter
    if unicodedata.category(letter) in ("Zs", "Cc"):
        return " "
    return rf"\texttt{{U+{ord(letter):04X}}}"
