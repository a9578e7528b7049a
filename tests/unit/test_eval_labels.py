"""Labels of cases: by item, by user, by columns of either file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_eval.slices import labels
from molar_eval.splits import cold_items, leave_one_out
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import SettingsError
from molar_retrieval.models.als import open_log
from molar_retrieval.workspace.artefacts import Workspace

ITEMS = [f"i{n}" for n in range(12)]
USERS = [f"u{n}" for n in range(9)]


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    random = np.random.default_rng(0)
    colour = ["red" if n % 2 else "blue" for n in range(12)]
    items = {"item_id": ITEMS, "title": ITEMS, "description": [None if n < 3 else "words" for n in range(12)]}
    pq.write_table(pa.table({**items, "colour": colour}), folder / "items.parquet")
    rows = [(u, i, t) for u in USERS for t, i in enumerate(random.permutation(ITEMS)[:6])]
    user, item, time = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": user, "item_id": item, "timestamp": time}), folder / "interactions.parquet")
    people = {"person": ["u3", "nobody", "u1"], "town": ["Rome", "Oslo", None]}
    pq.write_table(pa.table(people), folder / "users.parquet")
    (folder / "catalog.toml").write_text('[users]\nuser_id = "person"\n')
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    return workspace


def of(shop, split, test, columns=()):
    cases = split.tests[test]
    found = labels(cases, split.training, shop, columns, cases.readable)
    words = {each.dimension: [each.names[code] if code >= 0 else None for code in each.codes] for each in found}
    return cases, words


def test_every_case_is_labelled_by_its_target_and_its_user(shop):
    split = leave_one_out(open_log(shop))
    cases, words = of(shop, split, "last", ["colour", "town"])
    taken = np.bincount(split.training.item, minlength=12)
    for case, target in enumerate(cases.targets):
        assert words["colour"][case] == ("red" if target % 2 else "blue")
        assert words["content"][case] == ("neither" if target < 3 else "description only")
        assert (words["popularity"][case] == "cold") == (taken[target] == 0)
        assert words["history"][case] == "3–5"
        assert words["town"][case] == {"u3": "Rome"}.get(cases.user_ids()[case], "unknown")


def test_a_history_counts_what_a_model_may_read(shop):
    split = cold_items(open_log(shop), share=0.5)
    cases, words = of(shop, split, "cold")
    read = np.diff(cases.inputs().offsets)
    assert (read < cases.length).any()
    for case, count in enumerate(read):
        low, _, high = words["history"][case].partition("–")
        assert int(low) <= count <= int(high)
    assert set(words["popularity"]) == {"cold"}


def test_an_unknown_column_is_refused_with_the_nearest(shop):
    with pytest.raises(SettingsError) as caught:
        of(shop, leave_one_out(open_log(shop)), "last", ["colou"])
    assert "'colour'" in caught.value.hint
    with pytest.raises(SettingsError) as caught:
        of(shop, leave_one_out(open_log(shop)), "last", ["towm"])
    assert "'town'" in caught.value.hint
