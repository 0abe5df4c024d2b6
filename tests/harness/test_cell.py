"""The identity of a cell. The golden ids must never change: results on people's disks carry them."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nmbench.plan.cell import Cell, canonical

PLAIN = Cell("classification", "resnet18", "quick")
SPARSE = Cell(
    "classification",
    "resnet18",
    "quick",
    "2:4",
    "sr-ste",
    3,
    {"epochs": 20},
    {"lambda_w": 1e-3},
    {"sha256": "ab", "path": "w"},
)


def test_golden_ids():
    assert PLAIN.id == "d3ddc33ba3afecc8"
    assert SPARSE.id == "6c080045b865b1bb"
    assert replace(SPARSE, pattern="1:16@kernel", seed=0, init=None).id == "086f7bf85091354d"


def test_fields_at_their_default_do_not_count():
    assert Cell("classification", "resnet18", "quick", "dense", "dense", 0, {}, {}, None).id == PLAIN.id


def test_every_scientific_field_counts():
    changes = [
        {"task": "toy"}, {"model": "resnet50"}, {"scale": "study"}, {"pattern": "1:4"}, {"method": "ste"}, {"seed": 4},
        {"train": {"epochs": 21}}, {"hyper": {"lambda_w": 2e-3}}, {"init": {"sha256": "cd", "path": "w"}},
    ]  # fmt: skip
    ids = {replace(SPARSE, **change).id for change in changes}
    assert len(ids) == len(changes)
    assert SPARSE.id not in ids


def test_the_path_of_the_initial_weights_does_not_count():
    assert replace(SPARSE, init={"sha256": "ab", "path": "elsewhere"}).id == SPARSE.id


def test_the_twin_shares_what_the_engine_sees():
    twin = SPARSE.twin
    assert (twin.pattern, twin.method, twin.hyper) == ("dense", "dense", {})
    assert (twin.train, twin.seed, twin.init) == (SPARSE.train, 3, SPARSE.init)


def test_whole_floats_and_integers_are_the_same_setting():
    assert replace(SPARSE, train={"epochs": 20.0}).id == SPARSE.id


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
)
def test_canonical_text_survives_a_round_trip_through_json(settings):
    shuffled = dict(reversed(settings.items()))
    assert canonical(json.loads(json.dumps(shuffled))) == canonical(settings)


def test_a_cell_survives_its_record():
    assert Cell.from_dict(json.loads(json.dumps(SPARSE.to_dict()))).id == SPARSE.id


def test_slugs_are_safe_folders():
    cell = Cell("detection", "configs/my model.py", "quick", "4:8@kernel", "sr-ste")
    assert cell.slug == "my_model-4x8_kernel-sr-ste-s0"
