"""One optimizer step: fairseq's own arithmetic, the method's term in units of the mean loss, precision, failure."""

import pytest
import torch

from nmbench._util import random as rng
from nmbench.run import NonFiniteError
from nmbench_tasks.translation import Translation, train
from nmbench_tasks.translation.corpus import Corpus, TrainingBatches
from nmbench_tasks.translation.scales import Settings
from nmbench_tasks.translation.train import Precision


def trained(run, built):
    model = built(run.spec)
    Translation().train(model, run)
    return model


def gradients(make_run, spec_of, built, sparsified, lambda_w, **over):
    """What Adam receives at its first step, by name, and the weights and masks at that moment."""
    spec = spec_of(updates=1, clip_norm=0.0, **over)
    model = built(spec)
    handle = sparsified(model, "sr-ste", lambda_w=lambda_w)
    run, found = make_run(spec, work=f"{lambda_w} {over}", handle=handle), {}
    bind = run.bind

    def look(optimizer, *_):  # registered after the method's own hook, so it sees what that one added
        for name, parameter in model.named_parameters():
            found[name] = (parameter.grad.clone(), parameter.detach().clone())

    def bind_and_look(optimizer):
        bind(optimizer)
        optimizer.register_step_pre_hook(look)

    run.bind = bind_and_look
    masks = {name: mask.clone() for name, mask in handle.masks.items()}
    Translation().train(model, run)
    return found, masks


@pytest.mark.parametrize("over", [{"max_tokens": 100}, {"max_tokens": 600}, {"max_tokens": 100, "update_freq": 6}])
def test_the_decay_is_in_units_of_the_mean_loss(make_run, spec_of, built, sparsified, over):
    """lambda_w * (1 - E) * W, whatever the number of tokens in a batch and of batches in a step."""
    decay = 0.5
    plain, masks = gradients(make_run, spec_of, built, sparsified, 0.0, **over)
    decayed, _ = gradients(make_run, spec_of, built, sparsified, decay, **over)
    assert len(masks) == 32
    for name, (gradient, weight) in decayed.items():
        expected = decay * (~masks[name]) * weight if name in masks else torch.zeros_like(weight)
        assert torch.allclose(gradient - plain[name][0], expected, atol=1e-6), name


def test_the_gradient_is_the_mean_over_tokens(make_run, spec_of, built, embedded):
    """Two batches in a step give the gradient of the sum of their losses divided by the sum of their tokens."""
    spec = spec_of(update_freq=2, clip_norm=0.0, lr=0.0)
    run, model = make_run(spec), built(spec)
    corpus = Corpus(embedded.path, Settings.of(spec))
    criterion = train.criterion_of(corpus, 0.1)
    samples = next(TrainingBatches(corpus, run))
    optimizer = train.adam(model, Settings.of(spec))
    precision = Precision("fp32", torch.device("cpu"), optimizer.optimizer)
    loss = train.update(model.train(), samples, criterion, optimizer, precision, 0.0)
    got = {name: p.grad.clone() for name, p in model.named_parameters()}
    sums = [criterion(model, sample) for sample in samples]
    mean = sum(total for total, _, _ in sums) / sum(tokens for _, tokens, _ in sums)
    expected = torch.autograd.grad(mean, list(model.parameters()))
    assert loss == pytest.approx(float(mean), rel=1e-6)
    for (name, gradient), wanted in zip(got.items(), expected, strict=True):
        assert torch.allclose(gradient, wanted, atol=1e-7), name


def test_it_does_what_fairseqs_trainer_does(make_run, spec_of, built, embedded, tmp_path):
    """The same batches, by fairseq's own Trainer, give the same weights after every one of five updates."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer

    spec = spec_of(updates=5, update_freq=2, lr=0.005, warmup_updates=3, clip_norm=0.7, weight_decay=0.01)
    corpus, weights = Corpus(embedded.path, Settings.of(spec)), []
    run, model = make_run(spec), built(spec)
    step = run.step
    run.step = lambda **said: (step(**said), weights.append([p.detach().clone() for p in model.parameters()]))
    Translation().train(model, run)

    arguments = [str(corpus.folder), "--arch", "transformer_narrow", "--share-all-embeddings", "--cpu"]
    arguments += ["--adam-betas", "(0.9, 0.98)", "--optimizer", "adam", "--clip-norm", "0.7", "--lr", "0.005"]
    arguments += ["--weight-decay", "0.01", "--lr-scheduler", "inverse_sqrt", "--warmup-updates", "3"]
    arguments += ["--warmup-init-lr", "1e-07"]
    arguments += ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--max-tokens", "150"]
    arguments += ["--update-freq", "2", "--dropout", "0", "--distributed-world-size", "1", "--save-dir", str(tmp_path)]
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    config = convert_namespace_to_omegaconf(args)
    theirs = built(spec)
    trainer = Trainer(config, corpus.task, theirs, train.criterion_of(corpus, 0.1))
    stream = TrainingBatches(corpus, make_run(spec))
    for expected in weights:
        trainer.train_step(next(stream))
        for ours, their in zip(expected, theirs.parameters(), strict=True):
            assert torch.allclose(ours, their, atol=1e-7)
    assert trainer.get_num_updates() == len(weights) == 5


# -- precision and failure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_lower_precision_gives_nearly_the_same_gradient(make_run, spec_of, built, embedded, name):
    """On a CPU, where it can be tested; a cell uses it on CUDA only. Clipping needs unscaled gradients."""
    spec, clip = spec_of(lr=0.0), 0.1
    corpus = Corpus(embedded.path, Settings.of(spec))
    samples = next(TrainingBatches(corpus, make_run(spec)))
    criterion, found = train.criterion_of(corpus, 0.1), {}
    for kind in ("fp32", name):
        model = built(spec).train()
        optimizer = train.adam(model, Settings.of(spec))
        precision = Precision(kind, torch.device("cpu"), optimizer.optimizer)
        loss = train.update(model, samples, criterion, optimizer, precision, clip)
        found[kind] = loss, torch.cat([p.grad.reshape(-1) for p in model.parameters()])
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    (loss, exact), (other_loss, rounded) = found["fp32"], found[name]
    assert other_loss == pytest.approx(loss, rel=0.02)
    assert other_loss != loss
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert float(rounded.norm()) == pytest.approx(clip, rel=1e-3) == pytest.approx(float(exact.norm()), rel=1e-3)


def test_an_overflow_in_fp16_is_done_again_and_steps_once(make_run, spec_of, built, embedded, sparsified):
    spec = spec_of(dropout=0.3)
    corpus, run = Corpus(embedded.path, Settings.of(spec)), make_run(spec)
    samples, criterion = next(TrainingBatches(corpus, run)), train.criterion_of(corpus, 0.1)

    def stepped(scale):
        model = built(spec).train()
        handle = sparsified(model)
        optimizer = train.adam(model, Settings.of(spec))
        optimizer.set_lr(1e-3)
        handle.bind(optimizer.optimizer)
        precision = Precision("fp16", torch.device("cpu"), optimizer.optimizer)
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        rng.seed_all("dropout")
        train.update(model, samples, criterion, optimizer, precision, 0.0)
        return model, handle.steps, precision.scaler.get_scale()

    (calm, steps, scale), (wild, steps_again, halved) = stepped(2.0**10), stepped(2.0**24)
    assert scale == 2.0**10
    assert halved < 2.0**24  # it did overflow
    assert steps == steps_again == 1
    # Adam's first step is as long as the rate in the direction of each gradient's sign: other dropout, other signs
    one, other = (torch.cat([p.detach().reshape(-1) for p in model.parameters()]) for model in (calm, wild))
    assert float(((one - other).abs() < 1e-4).float().mean()) > 0.97


@pytest.mark.parametrize("over", [{"lr": 1e30, "clip_norm": 0.0}, {"lr": 1e30}])
def test_a_training_that_explodes_is_stopped(make_run, spec_of, built, over):
    with pytest.raises(NonFiniteError):
        trained(make_run(spec_of(**over)), built)
