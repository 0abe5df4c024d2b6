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


@pytest.mark.parametrize(("update", "workers"), [(5, 0), (8, 2)])
def test_a_sparse_run_resumed_in_mid_epoch_ends_bit_equal(
    make_run, spec_of, built, sparsified, save_always, update, workers
):
    """Worker processes change nothing: the whole run has none."""

    def attempt(work, beat=None, workers=workers):
        spec = spec_of(update_freq=2, workers=workers, **EPOCHS)
        model = built(spec)
        handle = sparsified(model)
        run = make_run(spec, beat, work, handle)
        Translation().train(model, run)
        handle.finalize()
        return model, handle.sad.history, run.curve

    whole, *expected = attempt("whole", workers=0)
    with pytest.raises(Interrupted):
        attempt("work", interrupt_at(update))
    torch.rand(100)
    resumed, *found = attempt("work")
    assert same(resumed, whole)
    assert found == expected
    assert [len(part) for part in found] == [12, 12]
    assert same(attempt("work", interrupt_at(13))[0], whole), "a finished run is not trained again"


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
    assert all(batch["target"].numel() <= 150 for batch in next(TrainingBatches(corpus, make_run(spec))))
