"""A pattern for each layer: by the names of layers, or by how large they are. The text of one says what a cell is.

*.conv1=dense,*=1:4   rules, the first name that fits a layer counts; layers that none fits stay dense
ffn=2:4               the feed-forward layers of transformers
erk-1:16              Erdos-Renyi kernel shares (Evci et al. 2020), rounded to N:M, of which 1/16 is kept in all
*.fc=dense,*=erk-2:8  both
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nmbench.sparsity.pattern import MAX_M, NMPattern

#: what leaves a layer alone
DENSE = "dense"
_ERK = "erk-"
_EVERY = "*"
_SLACK = 1e-9


def kernel_shares(
    shapes: Sequence[Sequence[int]], sparsity: float, least: Sequence[float] | None = None
) -> list[float]:
    """Sparsity of each layer by the Erdos-Renyi kernel rule, `sparsity` over all.

    The density of a layer is proportional to the sum of its dimensions over their product, 1 at most. Of each layer a
    whole number of weights is meant to go, as in the code of Evci et al. and DominoSearch.

    shapes: (out, in, ...) each. least: the lowest density that each can have.
    """
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    low = least or [0.0] * len(sizes)
    wanted = float(sum(size - math.floor(size * sparsity) for size in sizes))

    def densities(scale: float) -> list[float]:
        return [min(1.0, max(bottom, scale * part)) for bottom, part in zip(low, raw, strict=True)]

    def kept(scale: float) -> float:
        return sum(size * density for size, density in zip(sizes, densities(scale), strict=True))

    edges = sorted({edge / part for bottom, part in zip(low, raw, strict=True) for edge in (bottom, 1.0)})
    place = min(max(1, bisect_left(edges, wanted, key=kept)), len(edges) - 1)
    first, last = edges[place - 1], edges[place]  # between two edges what is kept grows evenly
    span = kept(last) - kept(first)
    scale = last - (last - first) * (kept(last) - wanted) / span if span else last
    return [1 - density for density in densities(min(max(scale, edges[0]), edges[-1]))]


@dataclass(frozen=True)
class ErdosRenyi:
    """Patterns i:M by Erdos-Renyi kernel shares, so that the layers together keep N of M.

    A layer that should keep less than 1:M has 1:2M or 1:4M, where its grouped dimension and M = 64 allow that.
    """

    total: NMPattern

    def __str__(self) -> str:
        return f"{_ERK}{self.total}"

    def patterns(self, shapes: Sequence[tuple[int, ...]], widths: Sequence[int]) -> list[NMPattern]:
        """Of each layer. At most N of M are kept in all, and no layer could keep one more without going beyond that.

        shapes: (out, in, ...) each. widths: of the dimensions that groups run along, M at least.
        """
        ladders = [self._ladder(width) for width in widths]
        sizes = [math.prod(shape) for shape in shapes]
        shares = [1 - s for s in kernel_shares(shapes, 1 - self.total.density, [x[0].density for x in ladders])]
        rungs = [
            max(i for i, pattern in enumerate(ladder) if pattern.density <= share + _SLACK)
            for ladder, share in zip(ladders, shares, strict=True)
        ]
        room = self.total.density * sum(sizes)
        room -= sum(s * ladder[rung].density for s, ladder, rung in zip(sizes, ladders, rungs, strict=True))
        while True:
            steps = []
            for i, (ladder, rung) in enumerate(zip(ladders, rungs, strict=True)):
                if rung + 1 < len(ladder):
                    now, higher = ladder[rung].density, ladder[rung + 1].density
                    if sizes[i] * (higher - now) <= room + _SLACK * sum(sizes):
                        steps.append(((shares[i] - now) / (higher - now), i, sizes[i] * (higher - now)))
            if not steps:
                return [ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True)]
            _, chosen, taken = max(steps)
            rungs[chosen] += 1
            room -= taken

    def _ladder(self, width: int) -> list[NMPattern]:
        """The patterns that a layer can have, the sparsest first."""
        m, axis = self.total.m, self.total.axis
        wider = [m << shift for shift in (2, 1) if m << shift <= min(MAX_M, width)]
        return [NMPattern(1, wide, axis) for wide in wider] + [NMPattern(n, m, axis) for n in range(1, m + 1)]


class AllocationError(ValueError):
    """The names of an allocation, or its patterns, do not fit the model."""


Share = NMPattern | ErdosRenyi | None


@dataclass(frozen=True)
class Allocation:
    """Names of layers, `*` allowed, each with what the layers that it fits keep to; None leaves them dense.

    A name is that of a parameter, of the module that has it, or "ffn". The first that fits a layer counts.
    """

    rules: tuple[tuple[str, Share], ...]

    def __str__(self) -> str:
        """The text that `read` reads back."""
        if len(self.rules) == 1 and self.rules[0][0] == _EVERY:
            return str(self.rules[0][1])
        return ",".join(f"{name}={DENSE if share is None else share}" for name, share in self.rules)

    @property
    def density(self) -> float:
        """The largest share of weights that one of its rules keeps; dense layers left out."""
        shares = [share for _, share in self.rules if share is not None]
        return max(share.total.density if isinstance(share, ErdosRenyi) else share.density for share in shares)


Patterns = NMPattern | Allocation
"""One pattern for all layers, or one for each."""
PatternsLike = Patterns | str | Mapping[str, str]


def read(given: PatternsLike) -> Patterns:
    """Read one pattern or an allocation, as an object, as its text, or as a table of names and texts.

    Equal allocations become equal objects: {"*": "2:4"} is 2:4. Raises ValueError on anything else.
    """
    if isinstance(given, NMPattern | Allocation):
        return given
    if isinstance(given, str) and "=" in given:
        given = _table(given)
    if isinstance(given, Mapping):
        return _allocation(given)
    share = _share(given, given)
    return Allocation(((_EVERY, share),)) if isinstance(share, ErdosRenyi) else share or NMPattern.parse(given)


def _table(text: str) -> dict[str, str]:
    made: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        if not equals:
            raise ValueError(f"pattern {text!r}: {part!r} is no rule: write name=N:M or name=dense, with ',' between")
        if name.strip() in made:
            raise ValueError(f"pattern {text!r} names {name.strip()!r} twice")
        made[name.strip()] = value.strip()
    return made


def _allocation(table: Mapping[str, str]) -> Patterns:
    rules = tuple((_name(name), _share(text, f"{name}={text}")) for name, text in table.items())
    if rules and rules[-1] == (_EVERY, None):
        rules = rules[:-1]  # what no rule names stays dense anyway
    if all(share is None for _, share in rules):
        raise ValueError("pattern: none of its rules makes a layer sparse")
    names = [name for name, _ in rules]
    if _EVERY in names[:-1]:
        late = names[names.index(_EVERY) + 1]
        raise ValueError(f"pattern: {late!r} comes after '*', which fits every layer: put '*' last")
    if len(rules) == 1 and names == [_EVERY] and isinstance(rules[0][1], NMPattern):
        return rules[0][1]
    return Allocation(rules)


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or any(c in name for c in ",=\n") or name != name.strip():
        raise ValueError(
            f"pattern: {name!r} is no name of layers: no ',' and no '=' may be in it, nor blanks around it"
        )
    return name


def _share(text: object, place: object) -> Share:
    """What a rule gives. place: for the message."""
    if text == DENSE:
        return None
    if isinstance(text, NMPattern):
        return text
    try:
        if isinstance(text, str) and text.startswith(_ERK):
            return ErdosRenyi(NMPattern.parse(text.removeprefix(_ERK)))
        return NMPattern.parse(text)  # type: ignore[arg-type] # which says what is wrong with it
    except ValueError as error:
        at = "" if place == text else f" (in {place!r})"
        raise ValueError(f"{error}{at}") from None
