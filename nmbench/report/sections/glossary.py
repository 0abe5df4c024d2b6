"""How a report is to be read: the list at its end, as inline markdown."""

from collections.abc import Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Bullets, Section

GLOSSARY = (
    "**Pattern** N:M: of every M consecutive weights along the reduction dimension at most N are non-zero. "
    "**Density** is non-zeros over weights, counted in the finalised weights of the sparse layers only; layers left "
    "dense are listed above.",
    "**Dense twin**: the same model with the same settings, seed, initial weights and batches, trained without "
    "sparsity. Every difference is sparse minus dense, seed by seed. A metric marked ↑ is better when higher, ↓ "
    "when lower. Values are those of the last epoch; ± is the standard deviation over seeds.",
    "**Interval**: the 95 % t interval of the mean paired difference over seeds. It covers the spread between seeds "
    "and no other: not other data, schedules or hyper-parameters. With two seeds it is very wide, with one there is "
    "none.",
    "**Verdict**, read off the interval against the task's declared margin: *better*, all of it is on the good side "
    "of 0; *not worse*, its bad end is within the margin; *worse*, all of it is on the bad side of 0 and it reaches "
    "the margin; *undecided*, the seeds do not tell, which is not the same as no difference. Verdicts are not "
    "corrected for the number of rows: where nothing differs, about one row in forty is called better.",
    "**p floor**: 2 / 2^n for n pairs of seeds, the smallest p-value that an exact test of so many can reach; "
    "with fewer than six it is above 0.05. **Seen from**: the true difference that this many seeds with this spread "
    "would have shown in four of five repetitions.",
    "**MACs**: multiply-accumulates of one example, dense → only those with a non-zero weight. They are counted, "
    "not timed: what hardware gains depends on its kernels.",
    "**Bytes**: all parameters, dense → with the sparse layers stored as values and indices. **Parameters**: all, "
    "dense → those that are not zero.",
    "**Flips**: weights that entered or left the masks, summed over all optimizer steps and layers, as a mean over "
    "seeds; per weight, divided by the weights of the sparse layers. 0 means that the mask never changed. **SAD** "
    "(sparse architecture divergence) of two steps is the distance of their two masks alone: a weight that left and "
    "came back between them does not count.",
)


def glossary(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """The last section of a report."""
    yield Section("How to read this report", (Bullets(GLOSSARY),))
