"""A small corpus in text files, as a user brings it."""

from pathlib import Path

from nmbench._util import random as rng


def write_text(folder: Path, pairs: int = 60, others: int = 8) -> Path:
    """A raw corpus of `pairs` training pairs and `others` in valid and test: words in reverse, in upper case."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = rng.generator("text")
    for split, count in (("train", pairs), ("valid", others), ("test", others)):
        words = [generator.choice(list("abcdefgh"), size=generator.integers(2, 6)).tolist() for _ in range(count)]
        (folder / f"{split}.en").write_text("".join(f"{' '.join(line)}.\n" for line in words))
        (folder / f"{split}.de").write_text("".join(f"{' '.join(line[::-1]).upper()} ß!\n" for line in words))
    return folder
