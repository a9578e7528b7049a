"""The page of a shop for a device, in a browser whose network is cut: its lists are those of the server."""

import functools
import http.server
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from studio_browser import Reader, chromium

from molar_indexes.device.export import export_device
from molar_indexes.recommender import Recommender
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.reranker import Reranker, names
from molar_retrieval.rng import generator

pytestmark = pytest.mark.slow
HISTORIES = 200
NOW = datetime(2026, 11, 20, tzinfo=UTC)
NEAR = 1e-4
"""By so much scores may differ."""
ASKED = """async ([folder, histories, options]) => {
    const { load } = await import("./molar-device.js");
    globalThis.shops ??= {};
    const shop = (globalThis.shops[folder] ??= await load(`../${folder}/`));
    const answers = [];
    for (const history of histories) {
        answers.push(await shop.recommend(history, { now: new Date("2026-11-20T00:00:00Z"), ...options }));
    }
    return answers;
}"""
LIMITING = '[[rule]]\nban = ["{banned}"]\n[[rule]]\nrequire = "price > 15"\n'
SHAPING = """
[[rule]]
boost = "category = Lamps"
by = 0.7
[[rule]]
bury = "price > 60"
[[rule]]
fresh = "released"
half_life_days = 400
by = 0.6
[[rule]]
at_most = 3
per = "category"
[[rule]]
at_most = 5
per = "colour"
[[rule]]
at_least = 4
of = "price < 30"
[[rule]]
at_least = 2
of = "category = Vases"
[[rule]]
name = "pinned"
pin = ["{cheap}", "{first}", "no such item", "{second}"]
at = 2
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def second_stage(store):
    """Networks of random numbers over features as this shop has them, and a number of each item."""
    random = generator(0, "second stage of a device")
    store = replace(store, numbers=random.normal(size=(len(store), 1)).astype(np.float32))
    features = names(store, ["price"])
    count = len(features)

    def some(*shape):
        return random.normal(size=shape).astype(np.float32)

    arrays = {"mean": some(count) / 3, "deviation": 0.5 + abs(some(count)), "hidden": some(2, count, 4)}
    arrays |= {"bias": some(2, 4), "out": some(2, 4), "skip": some(2, count) / 4, "scale": np.full(2, 9.0, np.float32)}
    return store, Reranker(features, {"price": (0.0, 1.0)}, **arrays)


def with_twins(store):
    """The items, of which some are no different from each other: known ones, and new ones."""
    arrays = {name: np.array(getattr(store, name)) for name in ("dense", "content", "als", "numbers")}
    values = np.array(store.sparse.values)
    known, cold = np.flatnonzero(store.known), np.flatnonzero(store.cold)
    for twins in (known[2:40:9], known[30:80:6], cold[:5]):
        for own in arrays.values():
            own[twins] = own[twins[0]]
        values[np.isin(store.sparse.items, twins)] = 0
    return replace(store, sparse=replace(store.sparse, values=values), **arrays)


def opened(trained, rules):
    """The trained shop with a second stage and items that are alike; it answers at one moment."""
    recommender = Recommender.open(trained.workspace, rules=rules, follow=False)
    table = recommender.generation.table
    factors = {"content_knn": 0.0, "sequential": 0.0, "popularity": 2.5}  # as where other aims have parts of their own
    back = {"sequential": 0.6, "popularity": 0.5, "id_tower": 0.0}
    store, second = second_stage(table.items.for_objective(factors))
    vars(recommender.generation)["table"] = replace(table, items=with_twins(store), reranker=second)
    vars(recommender.generation)["objectives"] = {"next_item": factors, "next_item, session start": back}
    vars(recommender.generation)["slots"] = (4, 10)  # whatever validation bears, newcomers have places
    recommender.now = NOW
    return recommender


@pytest.fixture(scope="module")
def shops(trained, tmp_path_factory):
    """One with rules that limit lists, and one with those that shape them as well."""
    folder = tmp_path_factory.mktemp("rules")
    with Recommender.open(trained.workspace, follow=False) as recommender:
        stored = recommender.generation.index.fetch(range(len(recommender.generation.index)))
    cheap = next(item.item_id for item in stored if item.payload.get("price", 99) < 15)
    named = {"cheap": cheap, "banned": stored[5].item_id, "first": stored[36].item_id, "second": stored[67].item_id}
    found = {}
    for name, text in {"limited": LIMITING, "shaped": LIMITING + SHAPING}.items():
        (folder / f"{name}.toml").write_text(text.format(**named), "utf-8")
        found[name] = opened(trained, folder / f"{name}.toml")
    yield found
    for one in found.values():
        one.close()


@pytest.fixture(scope="module")
def recommender(shops):
    return shops["limited"]


@pytest.fixture(scope="module")
def folder(shops, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    export_device(shops["limited"], folder / "limited", fields=["category"], photos=True)
    export_device(shops["shaped"], folder / "shaped")
    alone = export_device(shops["limited"], folder / "first stage", rerank=False)
    assert alone.left_out == ("the second stage: lists are those of rerank=False",)
    return folder


@pytest.fixture(scope="module")
def reader(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with chromium() as browser:
            reader = Reader(browser, f"http://127.0.0.1:{server.server_port}", width=900)
            reader.go("/limited/")
            reader.page.wait_for_selector("#list li")
            yield reader
            reader.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def offline(reader):
    reader.context.set_offline(True)
    try:
        yield
    finally:
        reader.context.set_offline(False)


def until(page, code):
    """Wait until some JavaScript is true; Playwright's own waiting evaluates text, which the policy forbids."""
    end = time.monotonic() + 15
    while not page.evaluate(code):
        assert time.monotonic() < end, f"never true: {code}"
        page.wait_for_timeout(20)


def histories(recommender):
    """Those of people, and made up: one item, many, again and again, new ones, unknown ones."""
    ids, random = recommender.generation.table.item_ids(), generator(0, "histories of a device")
    found = [[ids[row] for row in user.history] for user in recommender.generation.users.between(0, HISTORIES // 2)]
    while len(found) < HISTORIES:
        some = random.choice(ids, random.integers(1, 60)).tolist()
        found.append([*some, "nobody knows this"] if len(found) % 9 == 0 else some)
    return found


def same(answers, right):
    """Whether lists are equal, item for item in their order; scores to some millionths."""
    for answer, own in zip(answers, right, strict=True):
        assert [item["item_id"] for item in answer["items"]] == [item.item_id for item in own]
        np.testing.assert_allclose([item["score"] for item in answer["items"]], [item.score for item in own], atol=NEAR)
        for item, other in zip(answer["items"], own, strict=True):
            assert item["parts"].keys() == dict(other.parts).keys()
    return True


def test_lists_are_those_of_the_server_and_nothing_is_asked_of_it(recommender, reader):
    asked, moved = histories(recommender), 0
    reader.page.evaluate(ASKED, ["limited", [], {}])
    sent: list[str] = []
    reader.page.on("request", lambda request: sent.append(request.url))
    with offline(reader):
        answers = reader.page.evaluate(ASKED, ["limited", asked, {"k": 10}])
    right = [recommender.query(session=one, k=10, explore=False).items for one in asked]
    assert same(answers, right)
    assert {answer["unknown"] != [] for answer in answers} == {True, False}
    assert any("cold_start" in item.parts for own in right for item in own)
    for filter_seen, rerank, k in ((False, True, 30), (True, False, 15), (True, True, 300)):
        options = {"k": k, "filter_seen": filter_seen, "rerank": rerank}
        own = [recommender.query(session=one, explore=False, **options).items for one in asked[:20]]
        assert same(reader.page.evaluate(ASKED, ["limited", asked[:20], options]), own)
        moved += filter_seen and [one[:10] for one in own] != right[:20]
    assert moved  # the second stage does something
    assert sent == []
    assert reader.complaints == []
    assert reader.elsewhere == []


def test_without_the_second_stage_they_are_those_without_it(recommender, reader):
    asked = histories(recommender)[::8]
    own = [recommender.query(session=one, explore=False, rerank=False).items for one in asked]
    assert same(reader.page.evaluate(ASKED, ["first stage", asked, {}]), own)


def test_rules_shape_them_as_they_do_on_the_server(shops, reader):
    asked = histories(shops["shaped"])[::3]
    causes = set()
    for options in ({"k": 10}, {"k": 5, "rerank": False}, {"k": 60, "filter_seen": False}):
        some = asked if options["k"] == 10 else asked[::4]
        right = [shops["shaped"].query(session=one, explore=False, **options).items for one in some]
        assert same(reader.page.evaluate(ASKED, ["shaped", some, options]), right)
        causes |= {cause for own in right for item in own if item.rule for cause in item.rule.split(", ")}
    assert len(causes) == SHAPING.count("[[rule]]")  # each has moved something


def test_with_times_they_are_those_of_the_same_history_on_the_server(recommender, reader):
    ids, users = recommender.generation.table.item_ids(), recommender.generation.users.between(0, 40)
    random = generator(0, "times of a device")
    with recommender.answering() as answerer:
        constraints, state = answerer.present()
        asked, right, untimed = [], [], []
        for number, user in enumerate(users):  # some have done something just now, some come back
            times = np.cumsum(random.integers(0, 10**6, len(user.history))) + 1_700_000_000
            times += int(NOW.timestamp()) - times[-1:] - (1799, 1800, 9000)[number % 3]
            record = answerer.read(user.history, times)
            query = Query(k=30, explore=False)
            request = constraints.for_user(constraints.request(query, state.items, NOW), state.items, record)
            right += answerer.ranker_of(record, NOW).rank([request])
            asked.append([{"item_id": ids[r], "time": int(t)} for r, t in zip(user.history, times, strict=True)])
            untimed.append([ids[row] for row in user.history])
    answers = reader.page.evaluate(
        ASKED, ["limited", [one[::-1] for one in asked], {"k": 30}]
    )  # in whatever order they are named
    lists = [[item["item_id"] for item in answer["items"]] for answer in answers]
    assert lists == [[ids[placed.row] for placed in own.places] for own in right]
    others = reader.page.evaluate(ASKED, ["limited", untimed, {"k": 30}])
    assert lists != [[item["item_id"] for item in answer["items"]] for answer in others]


def test_without_a_history_it_is_what_is_popular(recommender, reader):
    (answer, unknown) = reader.page.evaluate(ASKED, ["limited", [[], ["nobody knows this"]], {"k": 12}])
    right = [item.item_id for item in recommender.popular(k=12).items]
    for one in (answer, unknown):
        assert one["basis"] == "popularity"
        assert [item["item_id"] for item in one["items"]] == right
    assert answer["items"][0]["payload"].keys() == {"category"}
    assert any((item["photo"] or "").startswith("blob:") for item in answer["items"])


def test_the_page_is_used_without_a_network(recommender, reader):
    page = reader.page
    assert reader.texts("#list-title") == ["What is popular"]
    with offline(reader):
        _use(page, reader)
    page.locator("#newer").click()
    until(page, "document.getElementById('current').textContent.includes('newest')")
    page.locator("#keep").check()
    reader.go("/limited/")
    page.wait_for_selector("#had li:nth-child(2)")
    page.locator("#forget").click()
    until(page, "document.querySelectorAll('#had li').length === 0")
    assert page.evaluate("localStorage.length") == 0
    assert reader.overflow() <= 0
    assert reader.barriers() == []


def _use(page, reader):
    title = reader.texts("#list .what")[0]
    page.locator("#list button").first.click()
    until(page, "document.querySelectorAll('#had li').length === 1")
    assert reader.texts("#list-title") == ["What would suit me next"]
    assert title not in reader.texts("#list .what")
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    page.locator("#search").fill("a")
    assert 0 < page.locator("#found li").count() <= 8
    page.locator("#found button").first.click()
    until(page, "document.querySelectorAll('#had li').length === 2")
    assert page.evaluate("localStorage.length") == 0
    page.locator("#newer").click()
    until(page, "document.getElementById('current').textContent.includes('cannot be reached')")
