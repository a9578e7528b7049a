"""Lists that show what somebody had: habits are learned, weighed, served, and leave all other lists as they are."""

import csv
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from molar_cli.commands.align import _print_repeat
from molar_indexes.batch import recommend
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.embedding import embed
from molar_retrieval.models.alignment import align, training_data
from molar_retrieval.models.als import ALSFactors, held_out, open_log
from molar_retrieval.models.base import count_models
from molar_retrieval.models.objectives import choose_repeat
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.repeat_consumption import DAY, day_after
from molar_retrieval.models.store import open_model
from molar_retrieval.ranking.objectives import (
    FUTURE_ITEMS,
    FUTURE_ITEMS_SEEN,
    NEXT_ITEM,
    NEXT_ITEM_SEEN,
    SESSION_START_SEEN,
)
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, EmbedSettings, IndexSettings, MolarSettings

N, PEOPLE, START = 40, 260, 18_000 * DAY
SETTINGS = MolarSettings(align=AlignSettings(preset="instant", objectives=("next_item", "future_items"), threads=1))


def bought(folder):
    """A shop where everybody buys one thing of their own again and again, and others once."""
    random, rows = np.random.default_rng(0), []
    for user in range(PEOPLE):
        staple = user % 8
        for visit in range(4 + user % 3):
            when = START + (user % 25 + 25 * visit) * DAY
            both = [f"i{staple}", f"i{8 + random.integers(N - 8)}"]
            rows += [(f"u{user}", item, when + n) for n, item in enumerate(both if user % 2 else both[::-1])]
    names, items, times = zip(*rows, strict=True)
    table = {"user_id": names, "item_id": items, "timestamp": times}
    pq.write_table(pa.table({name: list(values) for name, values in table.items()}), folder / "interactions.parquet")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("repeat") / "shop"
    folder.mkdir()
    ids = [f"i{n}" for n in range(N)]
    pq.write_table(
        pa.table({"item_id": ids, "title": [f"thing {n}" for n in range(N)], "price": [1.0] * N}),
        folder / "items.parquet",
    )
    vectors = np.random.default_rng(1).normal(size=(N, 8)).astype(np.float32)
    table = pa.table({"item_id": ids, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "vectors.parquet")
    bought(folder)
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    embed(workspace, EmbedSettings(), vectors=folder / "vectors.parquet")
    report = align(workspace, SETTINGS)
    publish_generation(workspace, IndexSettings())
    return SimpleNamespace(workspace=workspace, report=report, model=open_model(report.folder))


@pytest.fixture(scope="module")
def recommender(shop):
    with Recommender.open(shop.workspace.root) as opened:
        yield opened


def query(recommender, user="u5", **more):
    return recommender.query(user, k=5, explore=False, **more)


def test_habits_are_chosen_where_people_take_things_again(shop):
    told = shop.report.facts["repeat"]
    assert 100 <= told["repeats"] < told["cases"]
    assert told["scores"]["aligned"]["ndcg@10"] > max(
        told["scores"][name]["ndcg@10"] for name in ("ease", "content_knn", "sequential", "popularity")
    )
    weights = shop.model.weights_for(NEXT_ITEM_SEEN)
    assert weights == pytest.approx({part: told["weights"][part] for part in weights})
    assert shop.model.weights_for(NEXT_ITEM)["repeat_consumption"] == 0
    assert shop.model.weights_for(FUTURE_ITEMS)["repeat_consumption"] == 0
    assert shop.model.weights_for(FUTURE_ITEMS_SEEN) == weights
    assert shop.model.repeats.until == day_after(open_log(shop.workspace))


def test_among_very_many_items_habits_are_chosen_by_fewer_cases(shop, monkeypatch):
    factors = ALSFactors(np.zeros((PEOPLE, 2), np.float32), np.zeros((N, 2), np.float32))
    data, _ = training_data(shop.workspace, SETTINGS.align, SETTINGS.split, factors)
    counts = count_models(data.log, data.cases, data.features, SETTINGS.align)
    monkeypatch.setattr("molar_retrieval.models.validation._FEWEST", 150)
    monkeypatch.setattr("molar_retrieval.models.validation._RANKED", 1)
    holdout = held_out(shop.workspace, SETTINGS.split)
    told = choose_repeat(holdout, shop.model.network, data, counts, SETTINGS.align, 1, "float32").report
    assert told["cases"] == 150 < len(holdout)
    assert 0 < told["repeats"] < 150


def test_what_somebody_takes_again_and_again_comes_first_where_it_is_shown(shop, recommender):
    answer = query(recommender, filter_seen=False, explain=True)
    first = answer.items[0]
    assert first.item_id == "i5"
    assert first.parts["repeat_consumption"] > 0
    assert sum(first.parts.values()) == pytest.approx(first.score)
    assert first.reasons[0].startswith("You took this 6 times, about every 25 days.")
    assert first.evidence["taken"] == {"times": 6, "days": 25.0}
    hidden = query(recommender)
    assert "i5" not in [item.item_id for item in hidden.items]
    assert all(not item.parts.get("repeat_consumption") for item in hidden.items)


def test_lists_are_those_of_the_model(shop, recommender):
    log = open_log(shop.workspace)
    assert SESSION_START_SEEN.name in shop.model.objectives
    scores = shop.model.seeing(log).scores(log, SESSION_START_SEEN)[5]  # they were here years ago
    for condition in (None, "price > 0"):
        answer = query(recommender, filter_seen=False, where=condition)
        wanted = np.argsort(-scores, kind="stable")[:5]
        assert [item.item_id for item in answer.items] == [f"i{row}" for row in wanted]
        assert [item.score for item in answer.items] == pytest.approx(scores[wanted].tolist(), rel=1e-4)


def test_lists_of_everybody_are_those_of_queries(shop, recommender, tmp_path):
    recommend(shop.workspace.root, tmp_path / "lists.csv", k=5, filter_seen=False, explore=False)
    with (tmp_path / "lists.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["user_id"] in ("u5", "u9")]
    for user in ("u5", "u9"):
        listed = [row["item_id"] for row in rows if row["user_id"] == user]
        assert listed == [item.item_id for item in query(recommender, user, filter_seen=False).items]
    assert all(float(row["parts.repeat_consumption"]) > 0 for row in rows if row["rank"] == "1")


def test_what_was_just_bought_is_not_offered_again_and_a_session_has_no_habits(shop, recommender):
    before = query(recommender, "u6", filter_seen=False).items[0]
    assert before.item_id == "i6"
    now = day_after(open_log(shop.workspace)) + DAY
    event = {"event_id": "e", "event": "purchase", "item_id": "i6", "timestamp": now, "user_id": "u6"}
    with closing(EventLog(shop.workspace)) as log:
        assert log.append([(1, event)]).accepted == 1
    after = query(recommender, "u6", filter_seen=False)
    assert all(not item.parts["repeat_consumption"] for item in after.items if item.item_id == "i6")
    assert any(item.parts["repeat_consumption"] > 0 for item in after.items)
    session = recommender.query(session=["i5", "i6"], k=5, filter_seen=False, explore=False)
    assert all(not item.parts["repeat_consumption"] for item in session.items)


def test_align_tells_of_it(shop):
    told = []
    console = SimpleNamespace(
        table=lambda columns, rows, title: told.append((title, dict((row[0], row) for row in rows)))
    )
    for facts in ({}, {"repeat": None}, shop.report.facts):
        _print_repeat(SimpleNamespace(console=console), facts)
    ((title, rows),) = told
    assert "repeats" in title
    assert any(row[3].endswith("%") for row in rows.values())


def test_an_update_keeps_what_was_learned(shop):
    table = pq.read_table(shop.workspace.catalogue / "interactions.parquet")
    more = pa.table({"user_id": ["u5"], "item_id": ["i9"], "timestamp": [START + 300 * DAY]})
    pq.write_table(pa.concat_tables([table, more]), shop.workspace.catalogue / "interactions.parquet")
    prepare_interactions(shop.workspace.catalogue, shop.workspace)
    model = open_model(refresh(shop.workspace).folder)
    assert model.repeats.numbers.tolist() == shop.model.repeats.numbers.tolist()
    assert np.array_equal(model.repeats.tendency, shop.model.repeats.tendency)
    assert model.repeats.until == START + 301 * DAY
    assert not np.array_equal(model.repeats.demand, shop.model.repeats.demand)
    assert model.objectives == shop.model.objectives


def test_nothing_is_learned_where_nobody_takes_anything_again(trained):
    facts = Workspace.open(trained.workspace)["alignment"].require()[1].facts
    assert facts.get("repeat") is None
    assert facts.get("repeat_consumption") is None
