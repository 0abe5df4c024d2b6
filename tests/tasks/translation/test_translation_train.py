"""Training: resume to the bit, fairseq's own arithmetic, and the method's term in units of the mean loss."""

import math

import pytest
import torch
from task_helpers import Interrupted, interrupt_at, same

from nmbench_tasks.translation import Translation
from nmbench_tasks.translation.corpus import Corpus, TrainingBatches
from nmbench_tasks.translation.scales import Settings


def trained(run, built):
    model = built(run.spec)
    Translation().train(model, run)
    return model


# 40 pairs make 5 batches of 150 tokens: 12 updates are in the third epoch (with two batches a step, in the fourth)
EPOCHS = {"train_pairs": 40, "dropout": 0.2, "attention_dropout": 0.1}


@pytest.mark.parametrize(("update", "update_freq"), [(3, 1), (5, 1), (8, 2)])
def test_a_run_resumed_in_mid_epoch_ends_bit_equal(make_run, spec_of, built, save_always, update, update_freq):
    spec = spec_of(update_freq=update_freq, **EPOCHS)
    whole = make_run(spec, work="whole")
    expected = trained(whole, built)
    with pytest.raises(Interrupted):
        trained(make_run(spec, beat=interrupt_at(update)), built)
    resumed = make_run(spec)
    torch.rand(100)
    assert same(trained(resumed, built), expected)
    assert resumed.curve == whole.curve
    assert resumed.updates == 12


@pytest.mark.parametrize("method", ["sr-ste", "one-shot"])
def test_a_sparse_run_resumed_ends_bit_equal(make_run, spec_of, built, sparsified, save_always, method):
    spec = spec_of(**EPOCHS)

    def attempt(work, beat=None):
        model = built(spec)
        handle = sparsified(model, method)
        Translation().train(model, make_run(spec, beat, work, handle))
        handle.finalize()
        return model, handle.sad.history

    expected, flips = attempt("whole")
    with pytest.raises(Interrupted):
        attempt("work", interrupt_at(7))
    resumed, flips_again = attempt("work")
    assert same(resumed, expected)
    assert flips_again == flips
    assert len(flips) == 12


def test_a_finished_run_is_not_trained_again(make_run, built, save_always):
    expected = trained(make_run(), built)
    assert same(trained(make_run(beat=interrupt_at(13)), built), expected)


def test_the_loss_falls(make_run, spec_of, built):
    run = make_run(spec_of(updates=60, max_tokens=300))
    trained(run, built)
    losses = [loss for loss, _ in run.curve]
    assert losses[0] == pytest.approx(math.log(1503), rel=0.15)  # nats a token, before anything is learnt
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_rates_are_those_of_inverse_square_root(make_run, spec_of, built):
    run = make_run(spec_of(lr=0.01, warmup_updates=4, warmup_init_lr=0.001))
    trained(run, built)
    warm = [0.001 + 0.009 / 4 * update for update in range(4)]
    falling = [0.01 * math.sqrt(4 / update) for update in range(4, 12)]
    assert [lr for _, lr in run.curve] == pytest.approx(warm + falling)


def batch_ids(corpus, run, steps):
    stream = TrainingBatches(corpus, run)
    return [[batch["id"].tolist() for batch in next(stream)] for _ in range(steps)]


def test_batches_depend_on_seed_and_epoch_alone(embedded, make_run, spec_of):
    spec = spec_of(train_pairs=40)
    corpus = Corpus(embedded.path, Settings.of(spec))
    first = batch_ids(corpus, make_run(spec), 15)
    torch.rand(7)
    assert batch_ids(corpus, make_run(spec), 15) == first
    epoch = next(n for n in range(1, 15) if len({i for step in first[:n] for batch in step for i in batch}) == 40)
    assert sorted(map(str, first[:epoch])) == sorted(map(str, first[epoch : 2 * epoch]))  # the same batches
    assert first[:epoch] != first[epoch : 2 * epoch]  # in another order
    assert batch_ids(corpus, make_run(spec_of(train_pairs=40, seed=1)), 15) != first


def test_batches_leave_the_generators_alone(embedded, make_run, spec_of):
    run = make_run(spec_of(train_pairs=40))
    stream = TrainingBatches(Corpus(embedded.path, Settings.of(run.spec)), run)
    before = torch.get_rng_state()
    for _ in range(15):
        next(stream)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_keep_to_their_tokens(embedded, make_run, spec_of):
    run = make_run(spec_of(max_tokens=150, update_freq=3))
    stream = TrainingBatches(Corpus(embedded.path, Settings.of(run.spec)), run)
    for batch in next(stream):
        assert batch["net_input"]["src_tokens"].numel() <= 150
        assert batch["target"].numel() <= 150


def test_workers_do_not_change_the_result(make_run, spec_of, built):
    none = trained(make_run(spec_of(updates=4, **EPOCHS), work="none"), built)
    two = trained(make_run(spec_of(updates=4, workers=2, **EPOCHS), work="two"), built)
    assert same(none, two)
