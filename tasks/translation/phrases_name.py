"""Phrases made of names, from CLDR through Babel: territories, languages, and lists of them.

    both          one phrase in both languages, its spaces made plain
    names         every name that both languages have: each is one phrase of the training text
    LISTS         kind of list -> a function that draws one

A name cannot be guessed from other names, so names alone are only trained on; the test asks for them in lists.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Literal, NamedTuple

from babel import Locale
from babel.lists import format_list


class Pair(NamedTuple):
    """A source and its reference translation."""

    english: str
    german: str


#: makes one phrase out of what it draws from the generator
Draw = Callable[[Random], Pair]

#: CLDR sets numbers apart by no-break, narrow no-break and thin spaces, differently in each release
_SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f]+")


def both(phrase: Callable[[str], str]) -> Pair:
    """`phrase("en")` and `phrase("de")`; every run of spaces of any width becomes one plain space."""
    english, german = (_SPACES.sub(" ", phrase(locale)).strip() for locale in ("en", "de"))
    return Pair(english, german)


def names() -> Iterator[tuple[str, Pair]]:
    """(kind, pair) for every territory and language that has a name in English and in German, in a fixed order."""
    for kind in ("territories", "languages"):
        for code in _codes(kind):
            yield kind, _named(kind, code)


@functools.cache
def _codes(kind: str) -> tuple[str, ...]:
    """Two-letter codes (ISO 3166, ISO 639-1): few enough to be learnt from the lists that they are in."""
    english, german = (getattr(Locale(locale), kind) for locale in ("en", "de"))
    return tuple(code for code in sorted(english.keys() & german.keys()) if len(code) == 2 and code.isalpha())


def _tables(kind: str) -> Mapping[str, Mapping[str, str]]:
    return {locale: getattr(Locale(locale), kind) for locale in ("en", "de")}


def _named(kind: str, code: str) -> Pair:
    return both(lambda locale: _tables(kind)[locale][code])


def _list_of(kind: str) -> Draw:
    def draw(rng: Random) -> Pair:
        chosen = rng.sample(_codes(kind), rng.choice((2, 2, 3, 3, 4)))
        style: Literal["standard", "or"] = rng.choice(("standard", "standard", "or"))
        table = _tables(kind)
        return both(lambda locale: format_list([table[locale][code] for code in chosen], style, locale))

    return draw


LISTS: dict[str, Draw] = {f"lists of {kind}": _list_of(kind) for kind in ("territories", "languages")}
