"""Which kinds of events count, as validation chooses."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.event_history import EventWeights
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import is_current, prepare_interactions
from molar_retrieval.models.event_weights import FEWEST, candidates, choose_kinds
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, SplitSettings

GROUPS, SIZE = 8, 10
START = 1_700_000_000


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    ids = [f"{group}-{n}" for group in range(GROUPS) for n in range(SIZE)]
    pq.write_table(pa.table({"item_id": ids, "title": ids}), folder / "items.parquet")
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    return workspace


def events(users, *, telling, seed=0):
    """People with one purchase after some looks, at their own group of items or at anything."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        group, items = random.integers(GROUPS), random.permutation(SIZE)[:5]
        deeds = [("view", f"{group if telling else random.integers(GROUPS)}-{n}") for n in items[:4]]
        deeds += [("add_to_cart", f"{random.integers(GROUPS)}-{random.integers(SIZE)}")] * 2
        deeds += [("purchase", f"{group}-{items[4]}")]
        if not telling:
            deeds[:0] = [("purchase", f"{group}-{n}") for n in random.permutation(SIZE)[:4]]
        for place, (kind, item) in enumerate(deeds):
            when = START + 1000 * user + place
            rows.append({"event": kind, "user_id": f"u{user}", "item_id": item, "timestamp": when})
    return [{"event_id": f"{seed}-{number}", **row} for number, row in enumerate(rows)]


def append(workspace, rows):
    log = EventLog(workspace)
    assert log.append(enumerate(rows)).accepted == len(rows)
    log.close()


def prepared(workspace):
    choose = partial(choose_kinds, settings=AlignSettings(preset="instant"), split=SplitSettings())
    return prepare_interactions(workspace.catalogue, workspace, choose=choose)


@pytest.mark.parametrize("telling", [True, False])
def test_looks_count_where_they_tell_what_is_bought(workspace, telling):
    append(workspace, events(300, telling=telling))
    facts = prepared(workspace).facts
    assert facts["kinds_by"] == "validation"
    assert ("view" in facts["kinds"]) == telling
    assert [one["weights"] for one in facts["kinds_tried"]] == candidates(["purchase", "add_to_cart", "view"])
    scores = [one["ndcg@10"] for one in facts["kinds_tried"]]
    best = facts["kinds_tried"][int(np.argmax(scores))]
    assert facts["kinds"] == best["weights"]
    assert max(scores) > 0.1


def test_a_choice_stays_until_events_come(workspace):
    append(workspace, events(120, telling=True))
    first = prepared(workspace)
    assert prepared(workspace) == first
    assert prepare_interactions(workspace.catalogue, workspace, kinds=EventWeights.of(None)) == first
    append(workspace, events(5, telling=True, seed=1))
    assert not is_current(workspace.catalogue, workspace)
    kept = prepare_interactions(workspace.catalogue, workspace)  # without choosing
    assert (kept.facts["kinds"], kept.facts["kinds_at"]) == (first.facts["kinds"], first.facts["kinds_at"])
    again = prepared(workspace)
    assert again.facts["kinds_at"] == kept.facts["events"] > first.facts["kinds_at"]
    asked = prepare_interactions(workspace.catalogue, workspace, kinds=EventWeights.of({"purchase": 1}))
    assert (asked.facts["kinds"], asked.facts["kinds_by"]) == ({"purchase": 1}, "settings")
    assert prepared(workspace).facts["kinds_by"] == "validation"


def test_few_people_choose_nothing(workspace):
    append(workspace, events(FEWEST - 1, telling=True))
    facts = prepared(workspace).facts
    assert facts["kinds_by"] == "default"
    number = workspace["interactions"].manifest.number
    assert prepared(workspace).number == number


def test_candidates_begin_with_the_strongest():
    assert candidates(["purchase", "rating"]) == [{"purchase": 1, "rating": 1}]
    assert candidates(["add_to_cart", "view"]) == [
        {"add_to_cart": 1},
        {"add_to_cart": 1, "view": 0.1},
        {"add_to_cart": 1, "view": 0.3},
    ]
    assert candidates(["click", "view"]) == [{"click": 1, "view": 1}]
