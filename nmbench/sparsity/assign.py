"""From an allocation to the pattern of each weight of a model, and what is wrong with its names."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nmbench.sparsity.allocation import Allocation, AllocationError, ErdosRenyi, Share
from nmbench.sparsity.pattern import NMPattern

if TYPE_CHECKING:
    from nmbench.sparsity.select import Weight

#: the name that stands for the feed-forward layers of transformers
FFN = "ffn"
#: of a weight and its pattern: why it stays dense, or ""
Why = Callable[["Weight", NMPattern], str]


def module_name(parameter: str) -> str:
    """That of the module which holds it."""
    return parameter.rpartition(".")[0]


def hits(names: Iterable[str], text: str) -> set[str]:
    """Those parameters that `text` names, or their module, `*` allowed."""
    return {n for n in names if fnmatch.fnmatchcase(n, text) or fnmatch.fnmatchcase(module_name(n), text)}


def named(weights: Iterable[Weight], text: str) -> set[str]:
    """As `hits`; "ffn" names the feed-forward layers, unless something of the model is called so."""
    weights = list(weights)
    found = hits([w.name for w in weights], text)
    return found or ({w.name for w in weights if w.feed_forward} if text == FFN else set())


def near(known: Iterable[str], text: str) -> str:
    """A hint at names that are like it."""
    known = set(known)
    close = difflib.get_close_matches(text.strip("*."), known | {module_name(n) for n in known}, 2, 0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


#: for an error, after the name of what was asked
NO_FFN = (
    f"{FFN!r} finds no feed-forward layer of a transformer in this model, that is linear layers beside attention or in "
    "a module that is called so: name the layers instead"
)


def assigned(weights: Sequence[Weight], allocation: Allocation, why: Why) -> dict[str, NMPattern | str]:
    """Name -> its pattern, or why it has none.

    Raises AllocationError for a rule that names nothing, that comes after others which took all its layers, or whose
    pattern none of its layers takes.
    """
    found: dict[str, NMPattern | str] = {}
    for name, share in allocation.rules:
        wanted = named(weights, name)
        if not wanted:
            hint = (
                NO_FFN
                if name == FFN
                else f"{name!r} names no weight of this model{near((w.name for w in weights), name)}"
            )
            raise AllocationError(f"pattern: {hint}")
        mine = [w for w in weights if w.name in wanted and w.name not in found]
        if not mine:
            raise AllocationError(f"pattern: the layers of {name!r} are taken by names before it: put it before them")
        given = _given(name, share, mine, why)
        if share is not None and all(isinstance(own, str) or why(w, own) for w, own in zip(mine, given, strict=True)):
            first, own = mine[0], given[0]
            reason = own if isinstance(own, str) else why(first, own)
            raise AllocationError(f"pattern: no layer of {name!r} takes {share}: {first.name}: {reason}")
        found |= {weight.name: own for weight, own in zip(mine, given, strict=True)}
    return {w.name: found.get(w.name, f"not named by the pattern {allocation}") for w in weights}


def _given(name: str, share: Share, weights: Sequence[Weight], why: Why) -> list[NMPattern | str]:
    """What a rule gives its layers."""
    if not isinstance(share, ErdosRenyi):
        return [share or f"left dense by the pattern ({name})"] * len(weights)
    reasons = [why(weight, share.total) for weight in weights]
    taken = [weight for weight, reason in zip(weights, reasons, strict=True) if not reason]
    shapes = [tuple(w.parameter.shape) for w in taken]
    widths = [w.width(share.total) for w in taken]
    own = iter(share.patterns(shapes, widths) if taken else ())
    return [reason or next(own) for reason in reasons]
