"""The identity of a cell. The golden ids must never change: results on people's disks carry them."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nmbench._util.settings import canonical
from nmbench.plan.cell import Cell, InitialWeights
from nmbench.sparsity import NMPattern
from nmbench.sparsity.allocation import read

PLAIN = Cell("classification", "resnet18", "quick")
SPARSE = Cell(
    "classification",
    "resnet18",
    "quick",
    NMPattern(2, 4),
    "sr-ste",
    3,
    {"epochs": 20},
    {"lambda_w": 1e-3},
    InitialWeights("ab", "w"),
)


def test_golden_ids():
    assert PLAIN.id == "d3ddc33ba3afecc8"
    assert SPARSE.id == "6c080045b865b1bb"
    assert replace(SPARSE, pattern=NMPattern(1, 16, "kernel"), seed=0, init=None).id == "086f7bf85091354d"


def test_an_allocation_is_a_pattern_like_the_others():
    cell = replace(SPARSE, pattern=read({"*.conv1": "dense", "layer4*": "1:16", "*": "1:4"}))
    assert cell.id == "a5e35350b92d6138"
    assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell
    assert cell.slug == "resnet18-conv1-dense_layer4_-1x16_rest-1x4-sr-ste-s3"
    assert cell.twin == replace(SPARSE, pattern=None, method="dense", hyper={})
    long = replace(SPARSE, pattern=read({f"layer{i}.*": "1:4" for i in range(20)}))
    assert long.slug.endswith("-sr-ste-s3")
    assert replace(SPARSE, pattern=read("*=2:4")).id == SPARSE.id


def test_fields_at_their_default_do_not_count():
    assert Cell("classification", "resnet18", "quick", None, "dense", 0, {}, {}, None).id == PLAIN.id


def test_every_scientific_field_counts():
    changes = [
        {"task": "toy"}, {"model": "resnet50"}, {"scale": "study"}, {"pattern": NMPattern(1, 4)},
        {"method": "ste"}, {"seed": 4},
        {"distill": {"weight": 0.5, "temperature": 2.0}}, {"distill": {"weight": 0.6, "temperature": 2.0}},
        {"train": {"epochs": 21}}, {"hyper": {"lambda_w": 2e-3}}, {"init": InitialWeights("cd", "w")},
    ]  # fmt: skip
    ids = {replace(SPARSE, **change).id for change in changes}
    assert len(ids) == len(changes)
    assert SPARSE.id not in ids


def test_initial_weights_are_told_by_their_content_and_no_path_gets_into_a_record(tmp_path):
    (tmp_path / "here").mkdir()
    for path in (files := (tmp_path / "w.safetensors", tmp_path / "here" / "again.safetensors")):
        path.write_bytes(b"weights")
    here, there = (replace(SPARSE, init=InitialWeights.read(path)) for path in files)
    assert here == there
    assert here.id == there.id
    assert str(tmp_path) not in json.dumps(here.to_dict())
    assert here.to_dict()["init"]["file"] == "w.safetensors"


def test_an_old_record_with_a_path_is_the_same_cell():
    old = SPARSE.to_dict() | {"init": {"path": "/home/someone/w", "sha256": "ab"}}
    assert Cell.from_dict(old) == SPARSE
    assert Cell.from_dict(old).init.file == "w"


def test_the_twin_shares_what_the_engine_sees():
    twin = SPARSE.twin
    assert (twin.pattern, twin.method, twin.hyper) == (None, "dense", {})
    assert (twin.train, twin.seed, twin.init) == (SPARSE.train, 3, SPARSE.init)
    assert replace(SPARSE, distill={"weight": 0.5}).twin == twin


def test_whole_floats_and_integers_are_the_same_setting():
    spelt = replace(SPARSE, train={"epochs": 20.0})
    assert spelt.id == SPARSE.id
    assert json.dumps(spelt.to_dict()) == json.dumps(SPARSE.to_dict())


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
)
def test_canonical_text_survives_a_round_trip_through_json(settings):
    shuffled = dict(reversed(settings.items()))
    assert canonical(json.loads(json.dumps(shuffled))) == canonical(settings)


def test_a_cell_survives_its_record():
    assert Cell.from_dict(json.loads(json.dumps(SPARSE.to_dict()))) == SPARSE


def test_slugs_are_safe_folders():
    cell = Cell("detection", "configs/my model.py", "quick", NMPattern(4, 8, "kernel"), "sr-ste")
    assert cell.slug == "my_model-4x8_kernel-sr-ste-s0"
