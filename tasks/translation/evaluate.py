"""Metrics of a model on the split test, computed in float32.

evaluate      BLEU and chrF of the translations, loss and perplexity of the references
translate     beam search over the test split
token_losses  each sentence's loss under teacher forcing
"""

import math
from argparse import Namespace
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torch import nn

from nmbench.task import Run, evaluating
from nmbench_tasks._shared.folders import spread
from nmbench_tasks.translation import compat  # noqa: F401
from nmbench_tasks.translation.corpus import Corpus, moved
from nmbench_tasks.translation.scales import Settings

# isort: split
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

#: source tokens of a batch; the search keeps `beam` hypotheses of each sentence
MAX_TOKENS = 2000
#: sentences kept for the report
SHOWN = 6


def evaluate(model: nn.Module, run: Run) -> dict[str, float]:
    """bleu and chrf (0 to 100) of the beam search, loss in nats a token (without label smoothing), perplexity e^loss.

    Stores sources, references and hypotheses, and for each sentence its chrF and its mean loss.
    The model's mode and the global generators are left as they were.
    """
    settings = Settings.of(run.spec)
    corpus = Corpus(run.data.path, settings)
    with torch.no_grad(), evaluating(model), torch.random.fork_rng(devices=[]):
        losses = token_losses(model, corpus, run)
        hypotheses = translate(model, corpus, run)
    sources, references = corpus.text("test", 0), corpus.text("test", 1)
    bleu, chrf = BLEU(), CHRF()
    values = {
        "bleu": bleu.corpus_score(hypotheses, [references]).score,
        "chrf": chrf.corpus_score(hypotheses, [references]).score,
    }
    loss = sum(total for total, _ in losses) / sum(tokens for _, tokens in losses)
    run.store_texts("sources", sources)
    run.store_texts("references", references)
    run.store_texts("hypotheses", hypotheses)
    run.store_per_example("loss", [total / tokens for total, tokens in losses])
    pairs = zip(hypotheses, references, strict=True)
    run.store_per_example(
        "chrf", [chrf.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]
    )
    run.store_fact("BLEU signature", str(bleu.get_signature()))
    run.store_fact("chrF signature", str(chrf.get_signature()))
    run.store_fact("search", f"beam {settings.beam}, length penalty {settings.lenpen}")
    run.store_baseline("source unchanged", bleu=BLEU().corpus_score(sources, [references]).score)
    _store_samples(run, sources, references, hypotheses)
    return values | {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def translate(model: nn.Module, corpus: Corpus, run: Run) -> list[str]:
    """The best hypothesis of fairseq's beam search for every test source in use, in the corpus' order."""
    options = Settings.of(run.spec).model_dump(include={"beam", "lenpen", "max_len_a", "max_len_b"})
    generator = corpus.task.build_generator([model], Namespace(**options))
    device = next(model.parameters()).device
    found: dict[int, str] = {}
    for batch in corpus.batches("test", MAX_TOKENS):
        best = corpus.task.inference_step(generator, [model], moved(batch, device))
        for index, hypotheses in zip(batch["id"].tolist(), best, strict=True):
            found[index] = corpus.sentence(hypotheses[0]["tokens"])
        run.alive()
    return [found[index] for index in corpus.indices("test").tolist()]


def token_losses(model: Any, corpus: Corpus, run: Run) -> list[tuple[float, int]]:
    """(sum of the losses in nats, number of tokens) of every test reference in use, in the corpus' order."""
    device = next(model.parameters()).device
    pad = corpus.task.target_dictionary.pad()
    found: dict[int, tuple[float, int]] = {}
    for batch in corpus.batches("test", MAX_TOKENS):
        batch = moved(batch, device)
        log_probs = model.get_normalized_probs(model(**batch["net_input"]), log_probs=True)
        target = batch["target"]
        flat = log_probs.reshape(-1, log_probs.shape[-1]), target.reshape(-1, 1)
        _, losses = label_smoothed_nll_loss(*flat, epsilon=0.0, ignore_index=pad, reduce=False)
        totals, tokens = losses.reshape(target.shape).sum(dim=1), target.ne(pad).sum(dim=1)
        found.update(zip(batch["id"].tolist(), zip(totals.tolist(), tokens.tolist(), strict=True), strict=True))
        run.alive()
    return [found[index] for index in corpus.indices("test").tolist()]


def _store_samples(run: Run, sources: list[str], references: list[str], hypotheses: list[str]) -> None:
    for index in spread(len(sources), SHOWN):
        given = {"source": sources[index], "reference": references[index]}
        run.store_sample(f"test sentence {index + 1}", given, {"translation": hypotheses[index]})
