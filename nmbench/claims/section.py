"""What a report says of the seed paper: `Claims` and `Published`, sections by the entry points `nmbench.sections`."""

from collections import Counter
from collections.abc import Iterator, Sequence

from nmbench._util.groups import grouped
from nmbench.analysis.pairs import LEAST
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.claims import CLAIMS, Judgement, Outcome, judge
from nmbench.claims.pick import NOTE, SUM, UNSEEN, effective
from nmbench.claims.published import beside, published_table
from nmbench.document.model import Block, Fold, Prose, Section
from nmbench.document.table import Cell, Column, Table

#: more comparisons fold away
_MOST_ROWS = 12
_SUMMARY = (
    Column("claim", "Claim"),
    Column("text", "What the paper says"),
    *(Column(end, end.capitalize(), "r") for end in Outcome),
)
_COLUMNS = (
    Column("scope", "Where"),
    Column("outcome", "Outcome"),
    Column("seeds", "Seeds", "r"),
    Column("figures", "Figures"),
)
_HOW = (
    "A difference is that of the two means, paired by seed, with its 95 % interval; the outcome is read off the "
    f"interval. Fewer than {LEAST} seeds decide nothing. No correction is made for the number of rows.",
    'A claim of "not worse" fails only where the verdict is *worse*: what is *worse, perhaps within the margin* is '
    "undecided.",
    'After "seen from": the true difference that so many seeds with this spread would have shown in four of five '
    "repetitions.",
)


class Claims:
    """The seed paper's claims, as far as the records can decide them."""

    place, order = "front", 80

    def blocks(self, study: Study, rows: Sequence[Row]) -> Iterator[Section]:
        """Nothing where no record is about any claim."""
        if judged := judge(study.loaded, rows):
            yield claims_section(judged)


class Published:
    """Published figures beside ours, where the two may be compared at all."""

    place, order = "front", 90

    def blocks(self, study: Study, rows: Sequence[Row]) -> Iterator[Section]:
        """Nothing where no row is of what a published figure is about."""
        if shown := beside(rows, study.loaded.records):
            yield Section("Published figures", (published_table(shown),))


def claims_section(judged: Sequence[Judgement]) -> Section:
    """The comparisons by outcome, then each of them; claims that the records cannot decide take one line."""
    enough = {judgement.claim for judgement in judged if judgement.seeds >= LEAST}
    few = sorted({judgement.claim for judgement in judged} - enough)
    silent = sorted(set(CLAIMS) - enough - set(few))
    shown = [judgement for judgement in judged if judgement.claim in enough]
    content: list[Block | Fold] = []
    if shown:
        every = tuple(_by_statement(shown))
        content += [_summary(shown), *([Fold("Every comparison", every)] if len(shown) > _MOST_ROWS else every)]
    words = [f"Too few seeds to judge {', '.join(few)}: it takes {LEAST} at least."] if few else []
    words += [f"No record here is about {', '.join(silent)}."] if silent else []
    content += [Prose(" ".join(words))] if words else []
    return Section("The seed paper's claims", tuple(content))


def _summary(judged: Sequence[Judgement]) -> Table:
    """One row a claim: comparisons by outcome. The notes say how all outcomes are to be read."""
    counts: dict[str, Counter[Outcome]] = {}
    for judgement in judged:
        counts.setdefault(judgement.claim, Counter())[judgement.outcome] += 1
    rows = tuple(
        (Cell(claim), Cell(CLAIMS[claim]), *(Cell(str(ends[end]) if ends[end] else "-", ends[end]) for end in Outcome))
        for claim, ends in counts.items()
    )
    notes = list(_HOW)
    if any(SUM in judgement.figures for judgement in judged):
        unseen = "" if effective(judgement.row for judgement in judged) else f" {UNSEEN}"
        notes.append(NOTE + unseen)
    return Table("claims", "Comparisons by outcome", _SUMMARY, rows, tuple(notes), keys=2)


def _by_statement(judged: Sequence[Judgement]) -> Iterator[Table]:
    """A table for each statement, one row a judgement; the setting stands with the title where all have the same."""
    settings = {judgement.row.setting for judgement in judged}
    about = str(next(iter(settings))) if len(settings) == 1 else ""
    statements = grouped(((judgement.claim, judgement.text), judgement) for judgement in judged)
    for place, ((claim, statement), own) in enumerate(statements.items()):
        rows = tuple(_cells(judgement, bool(about)) for judgement in own)
        yield Table(f"claim-{claim.lower()}-{place}", f"{claim}. {statement}", _COLUMNS, rows, about=about)


def _cells(judgement: Judgement, one_setting: bool) -> tuple[Cell, ...]:
    row, seeds = judgement.row, judgement.seeds
    return (
        Cell(row.name if one_setting else f"{row.setting}, {row.name}"),
        Cell(judgement.outcome, strong=judgement.outcome is not Outcome.UNDECIDED),
        Cell(str(seeds) if seeds else "-", seeds),
        Cell(judgement.figures),
    )
