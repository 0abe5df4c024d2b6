"""The embedded corpus on disk: CLDR phrases as text, as subwords, and as fairseq binarises them.

    prepare          the folder below <data root>/translation, made if it is missing, damaged or of other versions
    PIECES           subwords of its vocabulary; ENTRIES: entries of fairseq's dictionary of them

Layout: text/<split>.<language> and text/<split>.kind (the kind of each phrase), bpe/, bpe.model, binary/ and
`manifest.json`.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmbench.task import DataError, DataInfo, Spec, made_once
from nmbench_tasks._shared.folders import refuse_paper
from nmbench_tasks.translation import phrases
from nmbench_tasks.translation.binarise import DIGITS, Subwords, binarise
from nmbench_tasks.translation.scales import Settings

#: to be raised whenever the corpus changes
VERSION = 1
PIECES = 1500
#: without sentencepiece's <unk>, with the four of fairseq (<s>, <pad>, </s>, <unk>)
ENTRIES = PIECES - 1 + 4


def prepare(spec: Spec, root: Path) -> DataInfo:
    """The embedded corpus below `root`, written if need be. Safe to call from several processes at once.

    Raises DataError if it cannot serve the settings of `spec`.
    """
    example = 'name its folder (train.en, train.de, ... or what fairseq-preprocess wrote): train = { data = "/path" }'
    refuse_paper(spec, "WMT14 English-German", example)
    settings = Settings.of(spec)
    if (settings.source_lang, settings.target_lang) != ("en", "de"):
        raise DataError("the embedded corpus goes from en to de; set source_lang and target_lang so, or name your data")
    # other versions of these say some things otherwise, so each has a folder of its own
    key = {"version": VERSION, **phrases.VERSIONS, "sentencepiece": version("sentencepiece")}
    name = "-".join([f"cldr-phrases-v{VERSION}", *(f"{package}{key[package]}" for package in list(key)[1:])])
    manifest = made_once(root / "translation" / name, key, _write)
    note = (
        f"Phrases of CLDR {manifest['cldr']} through Babel {key['babel']}, "
        f"numbers in words by num2words {key['num2words']}."
    )
    return DataInfo(root / "translation" / name, manifest["counts"], manifest["fingerprint"], (note,))


def _write(folder: Path) -> dict[str, Any]:
    from babel.core import get_cldr_version

    (folder / "text").mkdir()
    fingerprint = hashlib.sha256()
    lines: dict[tuple[str, str], list[str]] = {}
    for split, chosen in phrases.corpus().items():
        lines[split, "en"] = [phrase.pair.english for phrase in chosen]
        lines[split, "de"] = [phrase.pair.german for phrase in chosen]
        columns: dict[str, Any] = {"en": lines[split, "en"], "de": lines[split, "de"]}
        for name, column in {**columns, "kind": [phrase.kind for phrase in chosen]}.items():
            text = "".join(f"{line}\n" for line in column)
            (folder / "text" / f"{split}.{name}").write_text(text, encoding="utf-8")
            fingerprint.update(f"{split}.{name}\n{text}".encode())
    subwords = Subwords.trained(lines["train", "en"] + lines["train", "de"], PIECES, DIGITS)
    binarise(folder, lines, subwords, "en", "de")
    for file in sorted((folder / "bpe").iterdir()):
        fingerprint.update(f"{file.name}\n".encode() + file.read_bytes())
    counts = {split: len(lines[split, "en"]) for split in phrases.SIZES}
    return {"counts": counts, "fingerprint": fingerprint.hexdigest(), "cldr": get_cldr_version()}
