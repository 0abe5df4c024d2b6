"""Well-formed inputs with something wrong: values, keys, bytes, nesting."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

TEXTS = [
    "", " ", "x", "dense", "2:4", "0:0", "64:64", "2:4@kernel", "ok", "oom", "nan", "<script>alert(1)</script>",
    "$\\frac{1}{$", "$x^{$", "\udcff", "a\udcffb", "\x00", "a|b\n<b>", "```\n# x", "../../x", "/etc/passwd",
    "=cmd|' /C'!A0",
    "\\input{/etc/passwd}", "\\end{tabular}", "x" * 3000, "\u202e", "[x](javascript:alert(1))", "{",
    '{"lambda_w": NaN}',
    "\r\n", "\u00e9" * 200, "\U0001f389", "\ufeff", "a" * 300 + "/b", "os:system",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 3, 0.5, -0.0, 1e308, -1e308, 5e-324, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**400,
           float("nan"), float("inf"), True, False]  # fmt: skip
OTHERS: list[Any] = [None, [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": {"c": []}}}, ["x"], [1, None, "x"],
                     [float("nan")], {"x": float("nan")}, {"lambda_w": "x"}, {"$": 1}, [[1], [2, 3]]]  # fmt: skip
DEEP = [b"[" * 100_000, b'{"a":' * 60_000]


def junk(draw: random.Random) -> Any:
    return copy.deepcopy(draw.choice(draw.choice([TEXTS, TEXTS, NUMBERS, NUMBERS, OTHERS])))


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*at, key))


def changed(value: Any, draw: random.Random) -> Any:
    """A copy of JSON-like `value` with one to four changes, more of them near its top."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        places = list(_places(value))
        near = [place for place in places if len(place) <= 2]
        if not places:
            return junk(draw)
        *way, key = draw.choice(near if draw.random() < 0.6 else places)
        inner = value
        for part in way:
            inner = inner[part]
        match draw.randrange(8):
            case 0:
                del inner[key]
            case 1 if isinstance(inner, dict):
                inner[draw.choice(TEXTS)] = inner.pop(key)
            case 2 if isinstance(inner, list):
                inner.extend(inner[:1] * draw.choice([1, 1000]))
            case _:
                inner[key] = junk(draw)
    return value


def encoded(value: Any, draw: random.Random) -> bytes:
    """As JSON, sometimes with broken bytes, seldom nested beyond what Python follows."""
    if draw.random() < 0.01:
        return draw.choice(DEEP)
    data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    return flipped(data, draw) if draw.random() < 0.2 else data


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Bytes changed, cut, inserted, doubled; lengths at the beginning made absurd."""
    held = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        place = draw.randrange(len(held)) if held else 0
        match draw.randrange(7):
            case 0 if held:
                held[place] = draw.randrange(256)
            case 1:
                held = held[:place]
            case 2:
                held[place:place] = draw.randbytes(draw.randrange(1, 20))
            case 3:
                del held[place : place + draw.randrange(1, 9)]
            case 4 if len(held) > 8:
                held[:8] = struct.pack("<Q", draw.choice([0, 1, 7, 2**31, 2**63, 2**64 - 1, len(held), len(held) + 1]))
            case 5:
                held[place:place] = b"\0" * draw.choice([1, 4096])
            case 6:
                held = held * 2
    return bytes(held)


def toml(text: str, draw: random.Random) -> bytes:
    """A matrix file with lines changed, added, removed, or bytes broken."""
    lines = text.splitlines()
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(len(lines) + 1)
        match draw.randrange(5):
            case 0 | 1 if place < len(lines) and "=" in lines[place]:
                lines[place] = f"{lines[place].partition('=')[0]}= {_literal(draw)}"
            case 2:
                lines.insert(place, f"{draw.choice(_KEYS)} = {_literal(draw)}")
            case 3 if place < len(lines):
                del lines[place]
            case _:
                lines += ["[[grid]]", f"pattern = {_literal(draw)}", f"{draw.choice(_KEYS)} = {_literal(draw)}"]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return flipped(data, draw) if draw.random() < 0.2 else data


_KEYS = ["name", "scale", "tasks", "seeds", "train", "init", "timeout", "hang", "pattern", "method", "hyper", "models",
         "alone", "zzz", "train.steps", "hyper.lambda_w", '"\\u0000"']  # fmt: skip
_LITERALS = [
    "nan", "-inf", "1e400", "-1", "1", "9223372036854775808", "1" * 5000, '"\\u0000"', '"/dev/zero"', "[]", "[[]]",
    "{}", "true", "1979-05-27", '"2:4"', '["2:4", "dense"]', '"65:65"', '"\u0662:\u0664"',
    '["sr-ste", "asp"]', '"tiny/x"', "[" * 3000 + "]" * 3000, "{a=" * 300 + "1" + "}" * 300, "[0, 0]", "[1.5]",
    '["0-5"]', "{lambda_w=nan}", "{steps=[]}",
    "{steps=inf}", "{steps=[1, 2, 3]}", "{gpus=1000000}", "{fail=[{}]}", "{pause=nan}", '{"a.b"=1}', "[true]",
    "[" + ", ".join(map(str, range(3000))) + "]",
]  # fmt: skip


def _literal(draw: random.Random) -> str:
    return draw.choice(_LITERALS) if draw.random() < 0.7 else json.dumps(draw.choice(TEXTS)).replace("\\ud", "\\u0")
