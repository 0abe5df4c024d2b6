"""Phrases that say how much: measurement units and currencies from CLDR through Babel, numbers in words by num2words.

AMOUNTS     kind -> a function that draws one
"""

from __future__ import annotations

import functools
from decimal import Decimal
from random import Random

from babel import Locale
from babel.core import get_global
from babel.numbers import format_currency
from babel.units import format_unit
from num2words import num2words

from nmbench_tasks.translation.phrases_name import Draw, Pair, both

__all__ = ["AMOUNTS"]


@functools.cache
def _units() -> tuple[str, ...]:
    """Units with a long form in both languages ("duration-..." is left to the durations)."""
    english, german = (Locale(locale)._data["unit_patterns"] for locale in ("en", "de"))
    common = [unit for unit in sorted(english.keys() & german.keys()) if not unit.startswith("duration-")]
    return tuple(unit for unit in common if all("long" in table[unit] for table in (english, german)))


@functools.cache
def _currencies() -> tuple[str, ...]:
    """Codes of what is legal tender somewhere today."""
    known = get_global("territory_currencies").values()
    codes = {code for entries in known for code, _, until, tender in entries if until is None and tender}
    return tuple(sorted(code for code in codes if all(code in Locale(locale).currencies for locale in ("en", "de"))))


def _number(rng: Random) -> Decimal:
    """From 0.1 to 9,999,999; small ones more often, about a third with decimals."""
    digits = rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 7))
    whole = rng.randrange(10 ** (digits - 1), 10**digits)
    decimals = rng.choice((0, 0, 0, 0, 1, 2))
    part = rng.randrange(1, 10**decimals) if decimals else 0
    return Decimal(whole) + Decimal(part) / Decimal(10**decimals)


def _measure(rng: Random) -> Pair:
    """1,234.5 kilometers per hour -> 1.234,5 Kilometer pro Stunde."""
    unit, value = rng.choice(_units()), _number(rng)
    return both(lambda locale: format_unit(value, unit, "long", locale=locale))


def _price(rng: Random) -> Pair:
    """1,234.50 US dollars -> 1.234,50 US-Dollar."""
    code, value = rng.choice(_currencies()), _number(rng)
    return both(lambda locale: format_currency(value, code, locale=locale, format_type="name"))


def _words(rng: Random) -> Pair:
    """three hundred and forty-five -> dreihundertfünfundvierzig; ordinals and years too."""
    form = rng.choice(("cardinal", "cardinal", "ordinal", "year"))
    number = rng.randrange(1100, 2100) if form == "year" else rng.randrange(1, 10 ** rng.choice((3, 4, 5, 6)))
    return both(lambda locale: num2words(number, lang=locale, to=form))


AMOUNTS: dict[str, Draw] = {"measures": _measure, "prices": _price, "numbers in words": _words}
