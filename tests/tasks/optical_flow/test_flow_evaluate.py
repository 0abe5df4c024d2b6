"""Metrics against hand-made errors, padding, and what evaluation stores and leaves alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import FlyingChairs

from nmbench.contract import samples
from nmbench_tasks.optical_flow import OpticalFlow
from nmbench_tasks.optical_flow.evaluate import Padding, flow_picture
from nmbench_tasks.optical_flow.metrics import measure, summary


def errors_of(distances, lengths):
    """One row of pixels whose estimates are off by `distances` across the flow's direction."""
    flow = torch.stack([torch.tensor(lengths), torch.zeros(len(lengths))])[:, None]
    estimate = flow + torch.stack([torch.zeros(len(lengths)), torch.tensor(distances)])[:, None]
    return measure(estimate, flow, torch.ones(1, len(lengths), dtype=torch.bool))


@pytest.mark.parametrize(
    ("images", "expected"),  # (errors in px, lengths of the flow in px) of each image
    [
        (
            [([0.5, 2.0, 4.0, 9.5], [10.0] * 4)],
            {"epe": 4.0, "1px": 25.0, "3px": 50.0, "5px": 75.0, "fl_all": 50.0},
        ),
        # KITTI's outliers are off by more than 3 px and more than 5 %: 10 % of 40, 4 % of 100, 20 % of 10
        ([([4.0, 4.0, 2.0], [40.0, 100.0, 10.0])], {"fl_all": 100 / 3}),
        ([([3.0, 5.0, 4.0], [10.0, 100.0, 80.0])], {"fl_all": 0.0}),
        ([([3.001, 5.001, 4.001], [10.0, 100.0, 80.0])], {"fl_all": 100.0}),
        # one is a mean over images, the other over pixels
        ([([0.0] * 3, [1.0] * 3), ([8.0], [1.0])], {"epe": 4.0, "fl_all": 25.0}),
    ],
)
def test_the_metrics_of_known_errors(images, expected):
    found = summary([errors_of(*image) for image in images])
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_unknown_pixels_do_not_count_and_broken_estimates_do():
    flow = torch.zeros(2, 2, 2)
    estimate = flow.clone()
    estimate[:, 0, 0] = 100.0
    valid = torch.ones(2, 2, dtype=torch.bool)
    valid[0, 0] = False
    assert measure(estimate, flow, valid).epe == 0.0
    estimate[:, 1, 1] = math.nan
    broken = summary([measure(estimate, flow, valid)])
    assert math.isnan(broken["epe"])
    assert broken["1px"] == pytest.approx(200 / 3)
    assert broken["fl_all"] == pytest.approx(100 / 3)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(9, 40), width=st.integers(9, 40), street=st.booleans())
def test_padding_is_undone(height, width, street):
    images = torch.rand(1, 3, height, width)
    padding = Padding(height, width, street)
    padded = padding.pad(images)
    assert padded.shape[-2] % 8 == padded.shape[-1] % 8 == 0
    assert padded.shape[-2] - height < 8
    assert torch.equal(padding.cut(padded), images)
    rows_above = padding._sides[2]  # the border is repeated, so the values cannot tell
    assert rows_above == (0 if street else (-height % 8) // 2)


class Answer(torch.nn.Module):
    """The same flow for every pair, and none before the last update."""

    def __init__(self, flow=(0.0, 0.0)):
        super().__init__()
        self.flow = torch.nn.Parameter(torch.tensor(flow))
        self.sizes = []
        self.updates = set()

    def forward(self, first, second, num_flow_updates=12):
        assert first.shape == second.shape
        assert first.min() >= -1
        assert first.max() <= 1
        self.sizes.append(tuple(first.shape))
        self.updates.add(num_flow_updates)
        wrong = torch.full((len(first), 2, *first.shape[-2:]), 1e6)
        return [wrong] * (num_flow_updates - 1) + [wrong * 0 + self.flow[None, :, None, None]]


def test_zero_flow_scores_as_the_baseline_says(flow_run, flow_spec):
    run = flow_run(flow_spec(eval_updates=7, eval_batch=2))
    model = Answer()
    metrics = OpticalFlow().evaluate(model, run)
    assert metrics == run.baselines["zero flow"]
    assert metrics["epe"] > 3
    assert set(metrics) == {metric.name for metric in OpticalFlow.metrics}
    assert len(run.per_example["epe"]) == 3
    assert sum(run.per_example["epe"]) / 3 == pytest.approx(metrics["epe"], rel=1e-5)
    assert model.updates == {7}
    assert [size[0] for size in model.sizes] == [2, 1]


def test_a_user_s_sizes_are_padded_for_the_model_and_cut_back(flow_run, flow_spec, chairs, tmp_path):
    spec = flow_spec(data=str(chairs), stages="chairs", evaluate_on="chairs", eval_batch=1)
    run = flow_run(spec, data=OpticalFlow().prepare(spec, tmp_path))
    model = Answer((3.0, 4.0))
    metrics = OpticalFlow().evaluate(model, run)
    assert model.sizes == [(1, 3, 136, 152)] * 2
    flows = [flow for _, _, flow in FlyingChairs(str(chairs), split="val")]
    expected = [np.linalg.norm(flow - np.array([3.0, 4.0])[:, None, None], axis=0).mean() for flow in flows]
    assert run.per_example["epe"] == pytest.approx(expected, rel=1e-5)
    assert metrics["epe"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_second_evaluation_set_is_kept_as_facts(flow_run, flow_spec, chairs, flow_data):
    spec = flow_spec(data=str(chairs), evaluate_on="embedded+chairs")
    run = flow_run(spec)
    metrics = OpticalFlow().evaluate(Answer(), run)
    assert len(run.per_example["epe"]) == 3
    assert len(run.per_example["epe chairs"]) == 2
    assert run.facts["epe on chairs"] == pytest.approx(run.facts["zero-flow epe on chairs"])
    assert run.facts["epe on chairs"] != pytest.approx(metrics["epe"], rel=1e-3)


def test_the_pictures_to_show(flow_run, tmp_path):
    run = flow_run()
    OpticalFlow().evaluate(Answer(), run)
    other = flow_run(work="other")
    OpticalFlow().evaluate(Answer((5.0, 0.0)), other)
    assert [s.name for s in run.samples] == [s.name for s in other.samples]
    assert len(run.samples) == 2
    for mine, theirs in zip(run.samples, other.samples, strict=True):
        assert set(mine.given) == {"image 1", "image 2", "true flow"}
        assert all(np.array_equal(mine.given[key], theirs.given[key]) for key in mine.given)
        assert not np.array_equal(mine.output["flow"], theirs.output["flow"])
        assert (mine.output["flow"] == 255).all()  # nothing moves: white
        assert mine.given["true flow"].shape == (288, 320, 3)  # twice 144 x 160
    samples.write(run.samples, tmp_path / "samples.json")
    assert len(samples.read(tmp_path / "samples.json")) == 2


def test_every_flow_of_a_sample_has_the_truth_s_scale():
    truth = torch.zeros(2, 8, 8)
    truth[0, :4] = 10.0
    valid = torch.ones(8, 8, dtype=torch.bool)
    of_truth = flow_picture(truth, truth, valid)
    half = flow_picture(truth / 2, truth, valid)
    longer = flow_picture(truth * 3, truth, valid)
    assert np.array_equal(longer, of_truth)  # full strength already
    assert half[0, 0].min() > of_truth[0, 0].min()  # paler
    assert (half[-1] == 255).all()
    mixed = truth.clone()
    mixed[:, 4:] = torch.tensor([0.0, 200.0])[:, None, None]  # a wild estimate elsewhere does not pale the rest
    assert np.array_equal(flow_picture(mixed, truth, valid)[0, 0], of_truth[0, 0])
    assert flow_picture(torch.full_like(truth, math.nan), truth, valid).shape == (16, 16, 3)
