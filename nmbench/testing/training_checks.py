"""The checks of a task's training. Each function is one check; the context is a Bench."""

import contextlib

from nmbench.contract.task import Task
from nmbench.sparsity import audit
from nmbench.sparsity.audits import multiplied
from nmbench.testing.battery import Failed, Skip, check, collected
from nmbench.testing.bench import PATTERN, Bench, Result, Trained, digest, weights
from nmbench.testing.isolation import spied

__all__ = ["TRAINING_CHECKS"]

_TAUGHT = 2  # steps that are enough to see it
#: seconds of processor time that training at smoke scale may take
SMOKE_S = 20.0


@check("equal seeds build equal models, other seeds other ones")
def initial_weights_follow_the_seed(bench: Bench) -> None:
    one, again, other = (digest(weights(bench.build(bench.spec(seed)))) for seed in (0, 0, 1))
    if one != again:
        raise Failed("build() gave two different models for one seed")
    if one == other:
        raise Failed("build() gave the same weights for seeds 0 and 1")


@check("run.bind() got the optimizer that steps, and run.step() is called once for each of its steps")
def each_optimizer_step_is_told(bench: Bench) -> None:
    done = bench.trained()
    if not done.run.updates:
        raise Failed("train() never called run.step()")
    if not done.handle.steps:
        raise Failed("train() never called run.bind() with the optimizer that steps: the method took no part")
    if done.handle.steps != done.run.updates or done.optimizer_steps != done.run.updates:
        raise Failed(
            f"{done.optimizer_steps} optimizer steps, of which the method saw {done.handle.steps}, "
            f"and {done.run.updates} calls of run.step()"
        )


@check("the weights that the task names are sparse after training, and stay so when saved")
def candidates_end_sparse(bench: Bench) -> None:
    done = bench.trained()
    sparse = [layer for layer in done.handle.layers if layer.sparse]
    if not sparse:
        raise Failed("no weight of the model is sparse: candidates() names none that a 2:4 pattern fits")
    report = audit(done.model, PATTERN, done.handle.layers)
    broken = [layer.name for layer in report.layers if layer.violations]
    if broken:
        raise Failed(f"the pattern {PATTERN} is broken in {', '.join(broken[:3])}")


@check("the sparse weights multiply as they are: nothing in the model computes dense ones from them")
def sparse_weights_multiply(bench: Bench) -> None:
    done = bench.trained()
    lines = multiplied(done.model, bench.task.example_inputs(bench.spec()), done.handle.layers)
    undone = [line for line in lines if line.undone]
    if undone:
        names = ", ".join(line.name for line in undone[:3])
        raise Failed(f"{names}: {undone[0].reason}; leave such layers out of candidates()")


@check("a sparse model and its dense twin start from the same weights and see the same batches")
def twins_see_the_same(bench: Bench) -> None:
    sparse, dense = bench.trained(), bench.trained("dense", "dense")
    if sparse.init != dense.init:
        raise Failed("the initial weights differ between the sparse model and its dense twin")
    if not dense.batches:
        raise Skip("the inputs of the model's forward pass hold no tensors, so batches cannot be compared")
    if sparse.batches != dense.batches:
        raise Failed(f"the twins' batches differ from {_first_difference(sparse, dense)} on")


@check("training twice with one seed gives the same weights and metrics")
def equal_seeds_give_equal_results(bench: Bench) -> None:
    one, two = bench.trained().result, _again(bench)
    if one.batches != two.batches:
        raise Failed("two trainings of one seed saw other batches")
    if one.weights != two.weights:
        raise Failed("two trainings of one seed ended with other weights")
    if one.metrics != two.metrics:
        raise Failed(f"two trainings of one seed have other metrics: {one.metrics} and {two.metrics}")


@check("training with another seed gives another result")
def other_seeds_give_other_results(bench: Bench) -> None:
    one, other = bench.trained(), bench.trained(seed=1)
    if one.batches == other.batches:
        raise Failed("the batches of seeds 0 and 1 are the same, augmentation and order included")
    if digest(weights(one.model)) == digest(weights(other.model)):
        raise Failed("seeds 0 and 1 ended with the same weights")


@check("a pattern with N equal to M trains exactly what dense trains")
def equal_n_and_m_is_dense(bench: Bench) -> None:
    full, dense = bench.trained("4:4", "ste"), bench.trained("dense", "dense")
    if digest(weights(full.model)) != digest(weights(dense.model)):
        raise Failed("4:4, which prunes nothing, ended with other weights than dense")


@check("a training that was stopped and resumed ends with the weights of an uninterrupted one")
def resuming_changes_nothing(bench: Bench) -> None:
    whole = bench.trained()
    total = whole.run.updates
    if total < 4:
        raise Skip(f"{total} steps are too few to stop in between")
    resumed, begun_at = bench.resumed(stop_after=total // 2 + 1, save_after=total // 2)
    if resumed is None:
        raise Failed("training ended before half of its steps")
    if begun_at == 0 and resumed.run.updates == total and resumed.optimizer_steps == total:
        raise Skip(
            "it asks for no resume point (run.checkpoint_due) or reads none, so it starts again from the beginning"
        )
    if resumed.run.updates != total:
        raise Failed(f"the resumed training ended after {resumed.run.updates} steps in all, not {total}")
    if digest(weights(resumed.model)) != digest(weights(whole.model)):
        raise Failed(f"resumed from step {begun_at}, it ended with other weights than the uninterrupted training")


@check("where the task has logits(), these are rows of classes, and train() gives each loss to run.distilled()")
def logits_teach(bench: Bench) -> None:
    if type(bench.task).logits is not Task.logits and bench.taught(_TAUGHT).uses < _TAUGHT:
        raise Failed("train() does not give each loss to run.distilled(): nothing is learnt from a dense twin")


@check("training at smoke scale takes seconds")
def smoke_is_short(bench: Bench) -> None:
    taken = bench.trained().cpu_s
    if taken > SMOKE_S:
        raise Failed(f"training at smoke scale took {taken:.0f} s of processor time; at most {SMOKE_S:.0f}")


def _again(bench: Bench) -> Result:
    """The same training once more: in the process of its own that other checks look at too, where there is one."""
    if not bench.in_process:
        with contextlib.suppress(Skip):
            return Result(*spied(bench).result)
    return bench.trained(again=1).result


def _first_difference(one: Trained, two: Trained) -> str:
    for place, (a, b) in enumerate(zip(one.batches, two.batches, strict=False)):
        if a != b:
            return f"forward pass {place + 1}"
    return f"forward pass {min(len(one.batches), len(two.batches)) + 1}, where one of them ends"


TRAINING_CHECKS = collected(globals())
