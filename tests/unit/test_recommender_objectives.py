"""Lists for all that follows from the index of the next item, against the sums that the trained model gives."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from served import FAKE
from web_server import client_of

from molar_indexes import rebuild
from molar_indexes.batch import recommend
from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_indexes.server.client import Client, Connection
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import served
from molar_indexes.server.push import publish
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import RequestError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.store import open_model
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.objectives import FUTURE_ITEMS, FUTURE_ITEMS_SEEN, NEXT_ITEM, Objective, last
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.settings import IndexSettings
from molar_serving.asking import ask
from molar_serving.wire import RecommendationRequest

pytestmark = pytest.mark.slow

AIMS = {
    "next_item": {"ease": 0.0, "content_tower": 0.0},  # parts that only others use
    "future_items": {"ease": 0.4, "sequential": 0.0, "popularity": 6.0, "id_tower": 2.5},
    "future_items, seen shown": {"sequential": 3.0, "content_knn": 0.0},
}
WHERE = "category in (Shoes, Vases) and price < 60"


@pytest.fixture(scope="module")
def shop(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The trained shop with weights for several aims, and vectors turned towards its users as in a large one."""
    workspace = Workspace.open(copy_workspace(trained.workspace, tmp_path_factory.mktemp("objectives") / ".molar"))
    store = workspace["alignment"]
    folder, manifest = store.require()
    partial = store.partial("aiming")
    for path in folder.iterdir():
        if path.is_file() and path.name not in ("manifest.json", "files.json"):
            link_or_copy(path, partial / path.name)
    facts = {**manifest.facts, "objectives": AIMS, "slots": last(2)}
    store.publish(partial, replace(manifest, fingerprint="aiming", facts=facts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "MOST_SCANNED", 0)
        publish_generation(workspace, IndexSettings()).close()
    log = open_log(workspace)
    model = open_model(store.require()[0]).seeing(log)
    return SimpleNamespace(workspace=workspace, log=log, model=model, trained=trained)


@pytest.fixture(scope="module", params=["scanned", "searched", FAKE])
def recommender(shop: SimpleNamespace, request: pytest.FixtureRequest) -> Iterator[Recommender]:
    """The generation as it answers: from the item store, from the workspace's index, or from a server with users."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "scanned":
            patch.setattr(candidates, "MOST_SCANNED", 0)
            for bound in ("DEPTH", "_BESIDE"):
                patch.setattr(candidates, bound, 12)
        if request.param != FAKE:
            with Recommender.open(shop.workspace.root) as opened:
                yield opened
            return
        settings = IndexSettings(url="http://in-process", collection="molar-test-aims", users="server", uploads=1)
        server = ServerConfig.of(settings)
        assert server is not None
        connection = Connection(Client(":memory:"), server)
        with Recommender.open(shop.workspace.root) as own:
            publish(connection, own.generation, settings)
        with Recommender(shop.workspace, served(connection, shop.workspace)) as opened:
            yield opened


def expected(shop: SimpleNamespace, log: Any, row: int, objective: Objective) -> list[tuple[str, float]]:
    """The ten best for a history of a log, by all sums at once."""
    one = log.of_users(np.array([row]))
    allowed = np.ones((1, log.n_items), bool)
    if objective.seen == "hide":
        allowed[0, one.item] = False
    scores = np.where(allowed, shop.model.lifted(shop.model.scores(one, objective), allowed, objective), -np.inf)[0]
    best = np.argsort(-scores, kind="stable")[:10]
    return list(zip(log.items.ids(best), scores[best].tolist(), strict=True))


def assert_list(answer: Any, wanted: list[tuple[str, float]]) -> None:
    assert [item.item_id for item in answer.items] == [item_id for item_id, _ in wanted]
    assert [item.score for item in answer.items] == pytest.approx([score for _, score in wanted], abs=1e-4)
    for item in answer.items:
        assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-5)


@pytest.mark.parametrize(
    "objective",
    [NEXT_ITEM, FUTURE_ITEMS, FUTURE_ITEMS_SEEN, Objective("next_item", "show")],
    ids=lambda objective: objective.name,
)
def test_each_horizon_ranks_by_its_own_weights(
    shop: SimpleNamespace, recommender: Recommender, objective: Objective
) -> None:
    told = None if objective.target == "next_item" else objective.target
    assert "whitened" in recommender.generation.spec.dims
    for row in range(0, shop.log.n_users, 9):
        if not len(shop.log.history(row)):
            continue
        asked = {"objective": objective.target, "filter_seen": objective.seen == "hide"}
        answer = recommender.query(shop.log.users.id(row), explore=False, **asked)  # type: ignore[arg-type]
        assert_list(answer, expected(shop, shop.log, row, objective))
        assert answer.objective == told


def test_parts_are_those_of_the_default_list_times_their_factors(
    shop: SimpleNamespace, recommender: Recommender
) -> None:
    lists = {
        objective: {i.item_id: i.parts for i in recommender.query(shop.trained.user, k=100, objective=objective).items}
        for objective in ("next_item", "future_items")
    }
    known = [item for item in lists["next_item"] if shop.model.known[shop.log.items.row(item)]]
    assert len(known) > 50
    for item in known:
        one, other = lists["next_item"][item], lists["future_items"][item]
        assert (one["ease"], one["content_tower"], other["sequential"]) == (0, 0, 0)
        for part in ("popularity", "id_tower", "content_knn"):
            assert other[part] == pytest.approx(AIMS["future_items"].get(part, 1.0) * one[part], abs=1e-6)
    assert any(lists["future_items"][item]["ease"] for item in known)


def test_conditions_hold_within_a_horizon(shop: SimpleNamespace, recommender: Recommender) -> None:
    whole = recommender.query(shop.trained.user, k=100, objective="future_items", explore=False)
    some = recommender.query(shop.trained.user, k=5, objective="future_items", explore=False, where=WHERE)
    fits = [i for i in whole.items if i.payload["category"] in ("Shoes", "Vases") and i.payload["price"] < 60]
    known = [i.item_id for i in fits if shop.model.known[shop.log.items.row(i.item_id)]]
    found = [i.item_id for i in some.items if i.item_id in known]
    assert len(found) >= 3
    assert found == known[: len(found)]


def test_reasons_tell_of_the_parts_that_count(shop: SimpleNamespace, recommender: Recommender) -> None:
    for objective, counts in (("next_item", False), ("future_items", True)):
        asked: Any = {"objective": objective, "explore": False, "explain": True}
        items = recommender.query(shop.trained.user, k=30, **asked).items
        known = [item for item in items if shop.model.known[shop.log.items.row(item.item_id)]]
        for item in known:
            assert item.evidence is not None
            told = item.parts["content_tower"] + item.parts["content_knn"]
            assert sum(item.evidence["content"].values()) == pytest.approx(told, abs=1e-4)
        assert any(item.parts["content_tower"] for item in known) is counts


def test_sessions_new_events_and_many_at_once_have_the_horizon(shop: SimpleNamespace, recommender: Recommender) -> None:
    log, row = shop.log, shop.log.users.row(shop.trained.user)
    names = log.items.ids(log.history(row))
    session = recommender.query(session=names, objective="future_items", explore=False)
    zero = replace(log.of_users(np.array([row])), timestamp=np.zeros(len(names), np.int64))
    assert_list(session, expected(shop, zero, 0, FUTURE_ITEMS))
    users = [one for one in recommender.generation.users.between(0, 20) if len(one.history)]
    query = Query(objective="future_items", explore=False)
    for one, listing in zip(users, recommender.rank_many(users, query), strict=True):
        single = recommender.query(one.user_id, objective="future_items", explore=False)
        assert [place.score for place in listing.places] == [item.score for item in single.items]
    asked = RecommendationRequest(user_id=shop.trained.user, objective="future_items", explore=False)
    single = recommender.query(shop.trained.user, objective="future_items", explore=False)
    assert ask(recommender, asked).items == single.items


def test_addresses_and_rankings_have_the_horizon(shop: SimpleNamespace, recommender: Recommender) -> None:
    user = shop.trained.user
    items = [item.item_id for item in recommender.query(user, k=30, objective="next_item", explore=False).items]
    wanted = recommender.query(user, k=30, candidates=items, filter_seen=False, objective="future_items", explore=False)
    assert [item.item_id for item in wanted.items] != items
    with client_of(shop.workspace.root) as client:
        simple, whole = (
            client.request(
                method, "/v1/recommendations", **{given: {"user_id": user, "objective": "future_items"}}
            ).json()
            for method, given in (("GET", "params"), ("POST", "json"))
        )
        assert simple["items"] == whole["items"]
        assert simple["objective"] == "future_items"
        told = client.post("/v1/rankings", json={"user_id": user, "items": items, "objective": "future_items"}).json()
        assert [item["item_id"] for item in told["items"]] == [item.item_id for item in wanted.items]
        assert client.get("/v1/recommendations?user_id=u&objective=soon").status_code == 422


def test_somebody_who_did_something_since_is_asked_by_the_horizon(shop: SimpleNamespace, tmp_path: Path) -> None:
    place = Workspace.open(copy_workspace(shop.workspace.root, tmp_path / ".molar"))
    row = shop.log.users.row(shop.trained.user)
    had = shop.log.items.ids(shop.log.history(row))
    more = next(item for item in shop.log.items.ids(np.flatnonzero(shop.model.known)) if item not in had)
    at = int(shop.log.timestamp.max()) + 100
    with closing(EventLog(place)) as events:
        line = {"event_id": "e", "event": "purchase", "user_id": shop.trained.user, "item_id": more, "timestamp": at}
        events.append([(1, line)])
    with Recommender.open(place.root) as recommender:
        answer = recommender.query(shop.trained.user, objective="future_items", explore=False)
    one = shop.log.of_users(np.array([row]))
    longer = replace(
        one,
        offsets=np.array([0, len(had) + 1]),
        item=np.append(one.item, shop.log.items.row(more)).astype(np.int32),
        timestamp=np.append(one.timestamp, at),
    )
    assert_list(answer, expected(shop, longer, 0, FUTURE_ITEMS))


def test_a_file_of_lists_is_of_the_horizon(shop: SimpleNamespace, tmp_path: Path) -> None:
    recommend(shop.workspace.root, tmp_path / "lists.parquet", k=10, objective="future_items", explore=False)
    table = pq.read_table(tmp_path / "lists.parquet").to_pydict()
    own = [item for user, item in zip(table["user_id"], table["item_id"], strict=True) if user == shop.trained.user]
    with Recommender.open(shop.workspace.root) as recommender:
        answer = recommender.query(shop.trained.user, objective="future_items", explore=False)
    assert own == [item.item_id for item in answer.items]


def test_what_a_generation_was_made_for_is_asked_for_where_nothing_is_said(shop: SimpleNamespace) -> None:
    with Recommender.open(shop.workspace.root) as recommender:
        generation = recommender.generation
        later = replace(generation, default_objective="future_items")
        with Recommender(shop.workspace, later) as other:
            one, two = (other.query(shop.trained.user, objective=objective) for objective in (None, "future_items"))
            assert one.items == two.items
            assert one.objective == "future_items"
            assert other.query(shop.trained.user, objective="next_item").objective is None


def test_a_horizon_that_nothing_was_chosen_for_is_refused(shop: SimpleNamespace) -> None:
    alone = replace(open_generation(shop.workspace), objectives={})
    with Recommender(shop.workspace, alone) as recommender:
        asked: list[Any] = [
            lambda: recommender.query(shop.trained.user, objective="future_items"),
            lambda: recommender.query("nobody", objective="future_items", fallback="popular"),
            lambda: recommender.query(session=["SKU-0001"], objective="future_items"),
            lambda: recommender.rank_many([], Query(objective="future_items")),
        ]
        for question in asked:
            with pytest.raises(RequestError, match="no weights were chosen for the objective 'future_items'") as error:
                question()
            assert "molar align" in error.value.hint
        with pytest.raises(RequestError, match="objective = 'soon' is none of next_item, future_items"):
            recommender.query(shop.trained.user, objective="soon")  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="objective changes nothing in the answer of `popular`"):
            recommender.popular(objective="future_items")  # type: ignore[call-arg]
