"""Phrases from CLDR through Babel: dates, times, durations, measures, prices, names; numbers in words by num2words.

both                      one phrase in both languages, its spaces made plain
names                     every name that both languages have: each is one phrase of the training text
TIMES, AMOUNTS, LISTS     kind -> a function that draws one

A name cannot be guessed from other names, so names alone are only trained on; the test asks for them in lists.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Literal, NamedTuple

from babel import Locale, dates
from babel.core import get_global
from babel.lists import format_list
from babel.numbers import format_currency
from babel.units import format_unit
from num2words import num2words


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


_FIRST_YEAR, _YEARS = 1900, 200
_Unit = Literal["minute", "hour", "day", "week", "month", "year"]
_SECONDS: dict[_Unit, int] = {
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "month": 2629800,
    "year": 31557600,
}
#: unit of a duration and how many of it are fewer than one of the unit before it
_PARTS = {"year": 40, "month": 12, "week": 5, "day": 31, "hour": 24, "minute": 60, "second": 60}


def _moment(rng: Random) -> datetime:
    start = datetime(_FIRST_YEAR, 1, 1)
    return start + timedelta(days=rng.randrange(365 * _YEARS), seconds=rng.randrange(86400))


def _date(rng: Random) -> Pair:
    """Tuesday, March 3, 2015 -> Dienstag, 3. März 2015."""
    moment, length = _moment(rng), rng.choice(("full", "full", "long"))
    return both(lambda locale: dates.format_date(moment, length, locale))


def _date_and_time(rng: Random) -> Pair:
    """Tuesday, March 3, 2015, 3:05:00 PM Coordinated Universal Time -> ..., 15:05:00 Koordinierte Weltzeit."""
    moment, length = _moment(rng), rng.choice(("full", "long"))
    return both(lambda locale: dates.format_datetime(moment, length, locale=locale))


def _interval(rng: Random) -> Pair:
    """Mar 3 - Apr 12, 2015 -> 3. März - 12. Apr. 2015; 3:05 - 6:05 PM -> 15:05 - 18:05 Uhr."""
    start = _moment(rng)
    if rng.random() < 0.3:
        end = start + timedelta(minutes=rng.randrange(10, 900))
        # each language by the clock that it tells the time by
        clock = {"en": "hm", "de": "Hm"}
        return both(lambda locale: dates.format_interval(start.time(), end.time(), clock[locale], locale=locale))
    skeleton = rng.choice(("yMMMd", "yMMMEd", "MMMEd", "MMMd"))
    end = start + timedelta(days=rng.randrange(1, 300))
    return both(lambda locale: dates.format_interval(start.date(), end.date(), skeleton, locale=locale))


def _relative(rng: Random) -> Pair:
    """in 13 days -> in 13 Tagen; 2 months ago -> vor 2 Monaten."""
    unit = rng.choice(tuple(_SECONDS))
    delta = timedelta(seconds=_SECONDS[unit] * rng.randrange(1, 400)) * rng.choice((1, -1))

    def phrase(locale: str) -> str:
        # so high a threshold keeps the unit: 400 minutes do not become 7 hours
        return dates.format_timedelta(delta, granularity=unit, threshold=1e9, add_direction=True, locale=locale)

    return both(phrase)


def _duration(rng: Random) -> Pair:
    """3 hours, 12 minutes, and 5 seconds -> 3 Stunden, 12 Minuten und 5 Sekunden."""
    units = tuple(_PARTS)
    first = rng.randrange(len(units) - 1)
    chosen = units[first : first + rng.choice((2, 2, 3))]
    values = [Decimal(rng.randrange(1, _PARTS[unit])) for unit in chosen]

    def phrase(locale: str) -> str:
        parts = [format_unit(v, f"duration-{u}", locale=locale) for v, u in zip(values, chosen, strict=True)]
        return format_list(parts, "standard", locale)

    return both(phrase)


TIMES: dict[str, Draw] = {
    "dates": _date,
    "dates and times": _date_and_time,
    "intervals": _interval,
    "relative times": _relative,
    "durations": _duration,
}


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
