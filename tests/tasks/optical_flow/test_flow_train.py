"""Training: resume to the bit, stages, clipping before the method's term, and the order of the data."""

import itertools

import pytest
import torch
from task_helpers import Interrupted, interrupt_at, same
from torch import nn

from nmbench.run import NonFiniteError, Run
from nmbench.sparsity import audit, sparsify
from nmbench_tasks.optical_flow import OpticalFlow, plan, train
from nmbench_tasks.optical_flow.data import Augmented, Keys, batches
from nmbench_tasks.optical_flow.metrics import sequence_loss
from nmbench_tasks.optical_flow.prepare import parts_of_stage
from nmbench_tasks.optical_flow.scales import RECIPES, SCALES, Settings

CPU = torch.device("cpu")


def attempt(flow_spec, flow_model, flow_run, work, beat=None, method="sr-ste", **over):
    spec = flow_spec(**over)
    model = flow_model(spec)
    handle = sparsify(model, "2:4", method)
    run = flow_run(spec, beat=beat, work=work, handle=handle)
    OpticalFlow().train(model, run)
    handle.finalize()
    return model, handle, run


# two stages of two steps: interrupted within the first, and between them
@pytest.mark.parametrize("update", [1, 2])
def test_a_killed_run_resumed_ends_bit_equal(flow_spec, flow_model, flow_run, save_always, update):
    over = {"stages": "embedded+embedded", "steps": 2, "lr": 1e-3}
    whole, handle, run = attempt(flow_spec, flow_model, flow_run, "whole", **over)
    assert run.updates == 4
    with pytest.raises(Interrupted):
        attempt(flow_spec, flow_model, flow_run, "work", interrupt_at(update + 1), **over)
    torch.rand(100)
    resumed, handle_again, again = attempt(flow_spec, flow_model, flow_run, "work", **over)
    assert same(resumed, whole)
    assert handle_again.sad.history == handle.sad.history
    assert again.curve == run.curve
    finished, *_ = attempt(flow_spec, flow_model, flow_run, "work", interrupt_at(5), **over)
    assert same(finished, whole), "a finished run is not trained again"


def test_a_second_training_pass_takes_as_many_steps(flow_spec, flow_model, flow_data, tmp_path):
    """ASP trains twice: with a new optimizer, under masks that stay."""
    spec = flow_spec(steps=2)
    model = flow_model(spec)
    handle = sparsify(model, "2:4", "asp", layers=OpticalFlow().candidates(model))
    for phase in (0, 1):
        handle.start_phase(phase)
        run = Run(spec, flow_data, handle, tmp_path, phase)
        OpticalFlow().train(model, run)
        assert run.updates == 2
    assert handle.steps == 4
    handle.finalize()
    assert audit(model, "2:4", handle.layers).ok


def keys_of(run, stage=0, pairs=5, count=20, skip=0):
    return list(Keys(run, stage, pairs, count, skip))


def test_the_order_depends_on_seed_epoch_and_index_only(flow_run, flow_spec):
    keys = keys_of(flow_run())
    torch.rand(9)
    assert keys_of(flow_run()) == keys
    assert keys_of(flow_run(), skip=7) == keys[7:]
    assert keys_of(flow_run(flow_spec(seed=1))) != keys
    assert [place for place, _ in keys_of(flow_run(), stage=1)] != [place for place, _ in keys]
    assert {seed for _, seed in keys_of(flow_run(), stage=1)}.isdisjoint(seed for _, seed in keys)
    epochs = [keys[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(place for place, _ in epoch) == list(range(5)) for epoch in epochs)
    assert len({seed for _, seed in keys}) == 20
    assert len({tuple(place for place, _ in epoch) for epoch in epochs}) > 1


def test_worker_processes_change_nothing(flow_run, flow_spec):
    run = flow_run(flow_spec(augment="raft"))
    stage = plan.stages(Settings.of(run.spec))[0]
    pairs = Augmented(parts_of_stage(stage, Settings.of(run.spec), run.data.path), stage, "raft")
    none, two = (list(batches(pairs, Keys(run, 0, len(pairs), 6), 2, workers, CPU)) for workers in (0, 2))
    for a, b in zip(none, two, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert none[0].first.min() >= -1
    assert none[0].first.max() <= 1
    assert none[0].flow.shape == (2, 2, 128, 128)


def test_the_gradient_is_clipped_before_the_method_s_term(flow_spec, flow_model, flow_run):
    """The optimizer receives a gradient of norm `clip` plus the decay of the pruned weights, which is not clipped."""
    spec = flow_spec(steps=1, clip=1e-3)
    model = flow_model(spec)
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.5)
    run = flow_run(spec, handle=handle)
    found = {}

    def bind(optimizer):
        def before(*_):
            norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            found["clipped"] = torch.stack(norms).norm().item()
            found["grad"] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

        def after(*_):
            for name, mask in list(handle.masks.items())[:3]:
                parameter = dict(model.named_parameters())[name]
                term = parameter.grad - found["grad"][name]
                assert torch.allclose(term, torch.where(mask, 0.0, 0.5 * parameter.detach()), atol=1e-6), name
            found["checked"] = True

        assert type(optimizer) is torch.optim.AdamW
        optimizer.register_step_pre_hook(before)  # first in the row, so before the handle's own
        handle.bind(optimizer)
        optimizer.register_step_pre_hook(after)

    run.bind = bind
    OpticalFlow().train(model, run)
    assert found["clipped"] == pytest.approx(1e-3, rel=1e-3)
    assert found["checked"]


def test_one_cycle():
    stage = RECIPES["chairs"].model_copy(update={"steps": 200})
    rates = [train.learning_rate(step, stage, Settings(warmup=0.05)) for step in range(200)]
    assert rates[0] < 0.2 * 4e-4
    assert max(rates) == rates[9] == pytest.approx(4e-4)
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.01 * 4e-4
    falls = [a - b for a, b in itertools.pairwise(rates[10:])]
    assert max(falls) == pytest.approx(min(falls))


@pytest.mark.parametrize(("steps", "warmup"), [(200, 0.05), (50, 0.1), (3, 0.0)])
def test_at_the_scales_of_the_paper_the_cycle_is_the_authors_step_by_step(steps, warmup):
    stage = RECIPES["chairs"].model_copy(update={"steps": steps})
    settings = Settings(warmup=warmup, schedule="authors")
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        sgd, stage.lr, total_steps=steps + 100, pct_start=warmup, cycle_momentum=False, anneal_strategy="linear"
    )
    for step in range(steps):
        assert train.learning_rate(step, stage, settings) == pytest.approx(cycle.get_last_lr()[0], rel=1e-9), step
        sgd.step()
        cycle.step()
    assert train.learning_rate(0, stage, Settings(warmup=0.05, schedule="authors")) == pytest.approx(4e-4 / 25)
    assert all(SCALES[scale]["schedule"] == "authors" for scale in SCALES if scale.startswith("paper"))


def test_the_sequence_loss_weighs_later_updates_more():
    flow = torch.zeros(1, 2, 2, 2)
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    estimates = [flow + 1, flow + 2, flow + 4]
    assert sequence_loss(estimates, flow, valid, 0.8, 400).item() == pytest.approx(0.64 + 0.8 * 2 + 4)


def test_what_is_unknown_or_moves_too_far_does_not_count():
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, :, 0, 1] = 300.0  # a length of 424 px
    valid = torch.tensor([[[True, True, False, True]]])
    estimate = torch.full((1, 2, 1, 4), 8.0, requires_grad=True)
    loss = sequence_loss([estimate], flow, valid, 0.8, 400.0)
    assert loss.item() == pytest.approx(8.0 / 2)
    loss.backward()
    assert estimate.grad[0, 0, 0].tolist() == pytest.approx([1 / 8, 0, 0, 1 / 8])
    broken = flow.clone()
    broken[0, :, 0, 2] = float("nan")
    assert torch.isfinite(sequence_loss([estimate], broken, valid, 0.8, 400.0))


@pytest.mark.parametrize(("freeze_bn", "expected"), [(True, [True, False]), (False, [True, True])])
def test_batch_normalisation_is_frozen_from_the_second_stage_on(flow_spec, flow_run, freeze_bn, expected):
    class Network(nn.Module):
        """A batch normalisation where RAFT has many."""

        def __init__(self):
            super().__init__()
            self.norm, self.other = nn.BatchNorm2d(3), nn.InstanceNorm2d(3)

        def forward(self, first, second, num_flow_updates):
            seen.append(self.norm.training)
            assert self.other.training
            return [self.other(self.norm(first))[:, :2]] * num_flow_updates

    seen: list[bool] = []
    spec = flow_spec(stages="embedded+embedded", steps=1, freeze_bn=freeze_bn)
    OpticalFlow().train(Network(), flow_run(spec))
    assert seen == expected


def test_a_loss_that_is_not_finite_stops_the_run(flow_spec, flow_model, flow_run):
    spec = flow_spec(lr=1e20)
    model, run = flow_model(spec), flow_run(spec)
    with pytest.raises(NonFiniteError):
        OpticalFlow().train(model, run)


def test_the_paper_s_schedule():
    stages = plan.stages(Settings(**OpticalFlow.scales["paper-kitti"]))
    assert [(s.name, s.steps, s.batch, s.lr, s.crop_height, s.crop_width) for s in stages] == [
        ("chairs", 100_000, 12, 4e-4, 368, 496),
        ("things", 100_000, 6, 1.25e-4, 400, 720),
        ("sintel", 100_000, 6, 1.25e-4, 368, 768),
        ("kitti", 50_000, 6, 1e-4, 288, 960),
    ]
    assert [stage.weight_decay for stage in stages] == [1e-4, 1e-4, 1e-5, 1e-5]
    assert [s.name for s in plan.stages(Settings(**OpticalFlow.scales["paper"]))] == ["chairs", "things"]
    assert OpticalFlow.scales["paper"]["gamma"] == 0.8
    assert OpticalFlow.scales["paper"]["amp"]


def test_a_setting_replaces_the_stage_s_own():
    settings = Settings(**{**OpticalFlow.scales["paper"], "batch": 4, "weight_decay": 0.0})
    assert [(s.batch, s.weight_decay, s.steps) for s in plan.stages(settings)] == [(4, 0.0, 100_000)] * 2
    with pytest.raises(ValueError, match="steps is 0"):
        plan.stages(settings.model_copy(update={"steps": 0}))
