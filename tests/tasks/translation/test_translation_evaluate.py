"""Metrics: what they are computed from, what is kept of them, and that sparse weights say the same however stored."""

import copy
import math
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import load_file, save_model
from translation_text import write_text

from nmbench.run import Run
from nmbench.sparsity import Handle
from nmbench.sparsity.attach import detach, is_attached, weights_of
from nmbench.task import DataInfo, Spec
from nmbench_tasks.translation import Translation, evaluate
from nmbench_tasks.translation.corpus import Corpus
from nmbench_tasks.translation.scales import Settings


@dataclass
class Learner:
    """A sparse model, still attached, that has learnt a small corpus well enough to say something of its own."""

    task: Translation
    spec: Spec
    data: DataInfo
    model: torch.nn.Module
    handle: Handle


@pytest.fixture(scope="session")
def learner(tmp_path_factory, spec_of, sparsified):
    torch.set_num_threads(1)
    folder, task = tmp_path_factory.mktemp("learner"), Translation()
    text = write_text(folder / "text", pairs=800, others=30)
    spec = spec_of(
        data=str(text), pieces=36, test_pairs=0, beam=4, updates=150, max_tokens=300, warmup_updates=30, lr=4e-3
    )
    data = task.prepare(spec, folder)
    torch.manual_seed(0)
    model = task.build(spec)
    handle = sparsified(model)
    task.train(model, Run(spec, data, handle, folder / "work"))
    return Learner(task, spec, data, model, handle)


@pytest.fixture
def run(learner, make_run):
    return make_run(learner.spec, data=learner.data)


def test_beam_search_says_the_same_attached_finalised_and_reloaded(learner, run, tmp_path):
    corpus = Corpus(learner.data.path, Settings.of(learner.spec))
    attached, finalised = copy.deepcopy(learner.model), copy.deepcopy(learner.model)
    before = evaluate.translate(attached.eval(), corpus, run)
    assert len(set(before)) > 10  # it says something, and not always the same
    for weight in weights_of(finalised):  # what Handle.finalize does, on a copy
        weight.bake()
    detach(finalised)
    assert not is_attached(finalised)
    assert evaluate.translate(finalised.eval(), corpus, run) == before
    path = tmp_path / "weights.safetensors"
    save_model(finalised, str(path))
    reloaded = learner.task.build(learner.spec)
    reloaded.load_state_dict(load_file(path))
    assert evaluate.translate(reloaded.eval(), corpus, run) == before
    with torch.no_grad():  # the sparse weights do have a say in it
        for name in ("encoder.layers.1.fc1.weight", "decoder.layers.0.encoder_attn.q_proj.weight"):
            dict(reloaded.named_parameters())[name].zero_()
    assert evaluate.translate(reloaded.eval(), corpus, run) != before


# fairseq bounds a translation by the longest source of its batch; the second bound cuts most of them
@pytest.mark.parametrize("bound", [{}, {"max_len_a": 0.5, "max_len_b": 0}])
def test_translations_do_not_depend_on_the_batch(learner, make_run, monkeypatch, bound):
    run = make_run(replace(learner.spec, train={**learner.spec.train, **bound}), data=learner.data)
    first = learner.task.evaluate(learner.model, run)
    texts = run.texts["hypotheses"]
    monkeypatch.setattr(evaluate, "MAX_TOKENS", 40)
    assert learner.task.evaluate(learner.model, run) == pytest.approx(first, rel=1e-5)
    assert run.texts["hypotheses"] == texts


def test_translations_are_in_the_order_of_the_corpus(learner, run):
    """Found in batches by length; each is that which its source gets alone."""
    settings = Settings.of(learner.spec)
    everything = evaluate.translate(learner.model.eval(), Corpus(learner.data.path, settings), run)
    some = Corpus(learner.data.path, settings.model_copy(update={"test_pairs": 5}))
    assert some.indices("test").tolist() == [0, 6, 12, 18, 24]
    lengths = some.dataset("test").src_sizes[some.indices("test")]
    assert list(lengths) != sorted(lengths)
    assert evaluate.translate(learner.model, some, run) == everything[::6]


def test_metrics_are_sacrebleus_and_texts_are_kept(learner, run):
    import sacrebleu

    metrics = Translation().evaluate(learner.model, run)
    hypotheses, references = run.texts["hypotheses"], run.texts["references"]
    assert metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert metrics["chrf"] == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
    pairs = zip(hypotheses, references, strict=True)
    expected = [sacrebleu.sentence_chrf(hypothesis, [reference]).score for hypothesis, reference in pairs]
    assert run.per_example["chrf"] == pytest.approx(expected, abs=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    assert 0 < metrics["bleu"] < 100
    assert len(hypotheses) == len(references) == len(run.texts["sources"]) == 30
    written = (run.data.path / "text" / "test.de").read_text(encoding="utf-8").splitlines()
    assert references == written
    signature = run.facts["BLEU signature"]
    assert signature.startswith("nrefs:1|case:mixed|")
    assert f"version:{sacrebleu.__version__}" in signature


def test_the_loss_is_the_mean_cross_entropy_of_the_references(learner, run):
    assert run.spec.train["label_smoothing"] > 0  # which is of the training alone
    model, corpus = learner.model, Corpus(run.data.path, Settings.of(run.spec))
    losses = evaluate.token_losses(model.eval(), corpus, run)
    dataset = corpus.dataset("test")
    for place, index in list(enumerate(corpus.indices("test")))[:8]:
        batch = dataset.collater([dataset[index]])
        with torch.no_grad():
            logits = model(**batch["net_input"])[0][0]
        expected = torch.nn.functional.cross_entropy(logits, batch["target"][0], reduction="sum")
        assert losses[place] == pytest.approx((float(expected), len(dataset.tgt[index])), rel=1e-4)
    metrics = Translation().evaluate(model, run)
    assert metrics["loss"] == pytest.approx(sum(a for a, _ in losses) / sum(b for _, b in losses), rel=1e-6)
    assert run.per_example["loss"] == pytest.approx([a / b for a, b in losses], abs=1e-5)


def test_samples_are_the_same_sentences_in_every_cell(learner, make_run):
    one, other = (make_run(learner.spec, data=learner.data) for _ in range(2))
    Translation().evaluate(learner.model, one)
    Translation().evaluate(learner.task.build(learner.spec), other)
    assert len(one.samples) == 6
    assert [(s.name, s.given) for s in one.samples] == [(s.name, s.given) for s in other.samples]
    assert set(one.samples[0].given) == {"source", "reference"}
    for sample in one.samples:
        place = one.texts["sources"].index(sample.given["source"])
        assert sample.output == {"translation": one.texts["hypotheses"][place]}
        assert sample.given["reference"] == one.texts["references"][place]


def test_a_hopeless_model_is_measured_too(make_run, spec_of, built):
    """Weights that say the same everywhere: the search ends at its longest, nothing is infinite."""
    run = make_run(spec_of(test_pairs=5))
    model = built(run.spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    metrics = Translation().evaluate(model, run)
    assert metrics["loss"] == pytest.approx(math.log(1503), rel=1e-4)
    assert metrics["bleu"] < 1
    assert all(math.isfinite(value) for value in metrics.values())
