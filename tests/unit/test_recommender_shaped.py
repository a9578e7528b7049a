"""Lists that are shaped: rules, diversity, calibration, reasons; and many lists at once."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from molar_indexes import batch
from molar_indexes.batch import recommend
from molar_indexes.recommender import Recommender
from molar_retrieval.data.availability import Availability
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ranking import ranker
from molar_retrieval.ranking.diversity import boosts
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.results import Recommendations
from molar_retrieval.ranking.rules import Rule, Rules

K = 10


@pytest.fixture(scope="module")
def recommender(trained: Any) -> Iterator[Recommender]:
    with Recommender.open(trained.workspace) as opened:
        yield opened


@pytest.fixture
def ruled(trained: Any, tmp_path: Path) -> Iterator[Callable[[str], Recommender]]:
    opened: list[Recommender] = []

    def make(text: str) -> Recommender:
        path = tmp_path / "rules.toml"
        path.write_text(text, "utf-8")
        opened.append(Recommender.open(trained.workspace, rules=path))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def ids(answer: Recommendations) -> list[str]:
    return [item.item_id for item in answer.items]


def categories(answer: Recommendations) -> Counter[str]:
    return Counter(item.payload["category"] for item in answer.items)


def everybody(recommender: Recommender) -> Iterator[tuple[str, Recommendations]]:
    users = recommender.generation.users.between(0, 160)
    return ((user.user_id, recommender.query(user.user_id, k=K)) for user in users)


def test_a_cap_holds_and_says_whom_it_moved(trained: Any, ruled: Any, recommender: Recommender) -> None:
    shop = ruled("[[rule]]\nat_most = 2\nper = 'category'\n")
    user, plain = next((user, one) for user, one in everybody(recommender) if max(categories(one).values()) > 2)
    answer = shop.query(user, k=K)
    counts = categories(answer)
    assert len(answer.items) == K
    assert max(counts.values()) == 2
    moved = [item for item in answer.items if item.rule]
    assert moved
    assert all(item.rule == "max 2 per category" and item.rank < item.rank_by_score for item in moved)
    assert ids(shop.query(user, k=K, rules=False)) == ids(plain)


def test_limits_are_kept_and_explained_where_they_leave_too_little(trained: Any, ruled: Any) -> None:
    shop = ruled("[[rule]]\nrequire = 'category = Shoes'\n[[rule]]\nban = ['nobody']\n")
    answer = shop.query(trained.user, k=500)
    assert {item.payload["category"] for item in answer.items} == {"Shoes"}
    assert "the rules leave out others" in answer.shortfall
    banned = ids(answer)[0]
    shop = ruled(f"[[rule]]\nban = ['{banned}']\n")
    assert banned not in ids(shop.query(trained.user, k=500))


def test_pins_stand_where_they_are_put_but_never_show_what_was_seen(
    trained: Any, ruled: Any, recommender: Recommender
) -> None:
    plain = recommender.query(trained.user, k=60)
    low = plain.items[50].item_id
    user = recommender.generation.users.get(trained.user)
    seen = recommender.generation.table.item_id(int(user.history[0]))
    answer = ruled(f"[[rule]]\nname = 'our pick'\npin = ['{low}', '{seen}', 'gone']\nat = 3\n").query(trained.user, k=K)
    assert ids(answer)[2] == low
    assert answer.items[2].rule == "our pick"
    assert seen not in ids(answer)
    assert len(answer.items) == K
    assert [note.partition(":")[0] for note in answer.notes] == ["our pick"] * 2
    assert f"{seen!r} is hidden" in answer.notes[0]
    assert "no item 'gone'" in answer.notes[1]


def test_a_boost_is_an_addend_and_finds_what_the_score_would_not(
    trained: Any, ruled: Any, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "CANDIDATES", 12)
    monkeypatch.setattr(ranker, "_PER_PLACE", 1)
    last = recommender.query(trained.user, k=500).items[-1].payload["category"]
    answer = ruled(f"[[rule]]\nboost = 'category = {last}'\nby = 99\n").query(trained.user, k=3)
    assert {item.payload["category"] for item in answer.items} == {last}
    for item in answer.items:
        assert item.parts["rules"] > 0
        assert sum(item.parts.values()) == pytest.approx(item.score)
        assert item.rule == f"boost category = {last}"
    buried = ruled(f"[[rule]]\nbury = 'category = {last}'\nby = 99\n").query(trained.user, k=3)
    assert last not in {item.payload["category"] for item in buried.items}


def test_a_quota_is_met_or_told(trained: Any, ruled: Any, recommender: Recommender) -> None:
    plain = recommender.query(trained.user, k=500)
    rare = plain.items[-1].payload["category"]
    answer = ruled(f"[[rule]]\nat_least = 3\nof = 'category = {rare}'\n").query(trained.user, k=K)
    assert sum(item.payload["category"] == rare for item in answer.items) >= 3
    assert answer.notes == []
    told = ruled("[[rule]]\nat_least = 3\nof = 'category = Nothing'\n").query(trained.user, k=K)
    assert told.notes == ["min 3 of category = Nothing: 0 could be met"]
    assert len(told.items) == K


def test_diversity_makes_lists_less_alike(trained: Any, recommender: Recommender) -> None:
    content = recommender.generation.table.items.content

    def alike(answer: Recommendations) -> float:
        rows = [row for row in recommender.generation.index.rows(ids(answer)) if row is not None]
        return float((content[rows] @ content[rows].T)[np.triu_indices(len(rows), 1)].mean())

    assert ids(recommender.query(trained.user, k=K, diversity=0.0)) == ids(recommender.query(trained.user, k=K))
    values = [alike(recommender.query(trained.user, k=K, diversity=weight)) for weight in (0.0, 0.5, 1.0)]
    assert values[0] > values[1] > values[2]
    causes = {item.rule for item in recommender.query(trained.user, k=K, diversity=0.9).items}
    assert "diversity" in causes


def test_calibration_follows_the_history(trained: Any, recommender: Recommender) -> None:
    user = recommender.generation.users.get(trained.user)
    had = Counter(item.payload["category"] for item in recommender.generation.index.fetch(list(user.history)))

    def distance(answer: Recommendations) -> float:
        shown = Counter(item.payload["category"] for item in answer.items)
        return sum(abs(shown[c] / K - had[c] / had.total()) for c in {*shown, *had})

    plain = recommender.query(trained.user, k=K)
    assert distance(recommender.query(trained.user, k=K, calibrate="category", calibration_weight=1.0)) <= distance(
        plain
    )
    with pytest.raises(RequestError, match="no field 'categroy'") as error:
        recommender.query(trained.user, k=K, calibrate="categroy")
    assert "category" in error.value.hint


def test_reasons_come_with_evidence_from_the_history(trained: Any, recommender: Recommender) -> None:
    assert all(item.reasons == () and item.evidence is None for item in recommender.query(trained.user, k=K).items)
    user = recommender.generation.users.get(trained.user)
    had = {recommender.generation.table.item_id(int(row)) for row in user.history}
    answer = recommender.query(trained.user, k=K, explain=True)
    for item in answer.items:
        assert len(item.reasons) == 1
        assert item.evidence is not None
        assert {one["item_id"] for one in item.evidence["history"]} <= had
        linear = item.parts.get("content_tower", 0.0) + item.parts.get("content_knn", 0.0)
        assert sum(item.evidence["content"].values()) == pytest.approx(linear, abs=1e-4)
    assert any(item.evidence["history"] for item in answer.items)
    japanese = recommender.query(trained.user, k=K, explain=True, language="ja")
    assert all("。" in item.reasons[0] for item in japanese.items)
    with pytest.raises(RequestError, match="'xx'"):
        recommender.query(trained.user, k=K, explain=True, language="xx")
    assert "explain" in answer.timings_ms


def test_from_when_an_item_is_on_sale_is_no_reason(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(opened: Recommender) -> set[str]:
        found = [item.evidence for item in opened.query(trained.user, k=K, explain=True).items]
        return {word for evidence in found if evidence is not None for word in evidence["shared"]}

    with Recommender.open(trained.workspace) as opened:
        told = {item.payload["department"] for item in opened.query(trained.user, k=K).items}
        assert told & shared(opened)
    with Recommender.open(trained.workspace) as opened:
        table = replace(opened.generation.table, availability=Availability(available_from="department"))
        monkeypatch.setitem(vars(opened.generation), "table", table)
        assert not told & shared(opened)


@pytest.mark.parametrize("option", [{"diversity": 1.5}, {"diversity": -0.1}, {"calibration_weight": 2.0}])
def test_weights_outside_their_range_are_refused(trained: Any, recommender: Recommender, option: Any) -> None:
    with pytest.raises(RequestError, match="between 0 and 1"):
        recommender.query(trained.user, k=K, **option)


def test_misspelled_options_are_a_mistake(trained: Any, recommender: Recommender) -> None:
    with pytest.raises(TypeError, match="divresity"):
        recommender.query(trained.user, k=K, divresity=0.5)  # type: ignore[call-arg]


WEIGHING = """
[[rule]]
boost = "category = Shoes"
by = 0.4
[[rule]]
at_least = 2
of = "category = Bags"
[[rule]]
at_most = 3
per = "category"
[[rule]]
fresh = "released"
by = 0.2
"""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 35, "filter_seen": False},
        {"rerank": False, "explore": False},
        {"diversity": 0.4},
        {"calibrate": "category", "explore": False},
        {"where": "category = Shoes", "filter_seen": False},
        {"k": 200},
    ],
)
@pytest.mark.parametrize("rules", ["", WEIGHING])
def test_many_lists_are_in_every_bit_those_of_single_queries(ruled: Any, options: Any, rules: str) -> None:
    shop = ruled(rules)
    shop.now = datetime(2026, 3, 1, tzinfo=UTC)
    users = [user for user in shop.generation.users.between(0, 200) if len(user.history)][::12]
    for user, listing in zip(users, shop.rank_many(users, Query(**options)), strict=True):
        answer = shop.query(user.user_id, **options)
        for place, item in zip(listing.places, answer.items, strict=True):
            assert shop.generation.table.item_id(place.row) == item.item_id
            assert (place.score, place.parts) == (item.score, item.parts)
            assert (place.by_score, place.propensity) == (item.rank_by_score, item.propensity)
            assert (", ".join(place.causes) or None) == item.rule
        assert list(listing.notes) == answer.notes


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_recommend_writes_what_queries_answer(trained: Any, recommender: Recommender, tmp_path: Path) -> None:
    report = recommend(trained.workspace, tmp_path / "all.parquet", k=5, diversity=0.2)
    rows = read(tmp_path / "all.parquet")
    assert (report.users, report.rows, report.skipped, report.short) == (len(rows) // 5, len(rows), 0, 0)
    assert report.users == len(recommender.generation.users)
    for begin in range(0, len(rows), 505):
        mine = rows[begin : begin + 5]
        answer = recommender.query(mine[0]["user_id"], k=5, diversity=0.2)
        assert [row["item_id"] for row in mine] == ids(answer)
        assert [row["rank"] for row in mine] == [1, 2, 3, 4, 5]
        assert [row["rule"] for row in mine] == [item.rule for item in answer.items]
        for row, item in zip(mine, answer.items, strict=True):
            assert sum(row["parts"].values()) == pytest.approx(item.score, abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]


def test_recommend_goes_on_where_it_was_killed(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_SHARD", 50)
    target, whole = tmp_path / "some.parquet", tmp_path / "whole.parquet"
    recommend(trained.workspace, whole, k=3)
    made: list[int] = []
    write = batch._write

    def dying(recommender: Any, job: Any, shard: int, named: Any) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(shard)
        write(recommender, job, shard, named)

    monkeypatch.setattr(batch, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        recommend(trained.workspace, target, k=3)
    assert not target.exists()
    again: list[int] = []
    monkeypatch.setattr(batch, "_write", lambda r, j, s, n: (again.append(s), write(r, j, s, n)))
    report = recommend(trained.workspace, target, k=3)
    assert set(again).isdisjoint(made)
    assert (report.shards, report.made) == (len(made) + len(again), len(again))
    assert target.read_bytes() == whole.read_bytes()
    assert not target.with_name("some.parquet.partial").exists()


def test_shards_of_another_request_are_not_used(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.parquet"
    write = batch._join
    monkeypatch.setattr(batch, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        recommend(trained.workspace, target, k=3)
    monkeypatch.setattr(batch, "_join", write)
    report = recommend(trained.workspace, target, k=4)
    assert report.rows == 4 * report.users


def test_what_is_fresh_is_so_by_the_moment_at_which_the_run_began(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, moments = tmp_path / "r.parquet", []
    write = batch._write

    def noting(recommender: Recommender, *others: Any) -> None:
        moments.append(recommender.now)
        write(recommender, *others)

    def interrupted() -> dict[str, Any]:
        monkeypatch.setattr(batch, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recommend(trained.workspace, target, k=2)
        (request,) = target.with_name("r.parquet.partial").glob("*/request.json")
        known: dict[str, Any] = json.loads(request.read_text("utf-8"))
        return known | {"path": request}

    join = batch._join
    monkeypatch.setattr(batch, "_SHARD", 80)
    monkeypatch.setattr(batch, "_write", noting)
    first = interrupted()
    (request := first["path"]).with_name("00000001.parquet").write_bytes(b"torn")
    monkeypatch.setattr(batch, "_join", join)
    recommend(trained.workspace, target, k=2)
    assert len(moments) == 3
    assert {moment.isoformat() for moment in moments} == {first["begun"]}
    assert not request.parent.parent.exists()

    request = interrupted()["path"]
    old = datetime.now(UTC) - timedelta(days=2)
    request.write_text(json.dumps({"begun": old.isoformat()}), "utf-8")
    assert interrupted()["begun"] > old.isoformat()


def test_the_moment_decides_what_is_fresh() -> None:
    released = ("2020-01-01", "2020-01-31")
    items = Mock(stored=lambda rows: [StoredItem(row, f"{row}", {"released": released[row]}) for row in rows])
    (rule,) = Rules([Rule(fresh="released", by=1.0)], {"released": "keyword"}, {}).for_user({}).weighing
    rows, scores = np.array([0, 1]), np.array([0.0, 2.0])
    assert boosts([rule], rows, items, scores, datetime(2020, 1, 31, tzinfo=UTC))[:, 0].tolist() == [0.5, 1.0]
    assert boosts([rule], rows, items, scores, datetime(2020, 3, 1, tzinfo=UTC))[:, 0].tolist() == [0.25, 0.5]


def test_thousands_of_banned_words_ban_the_same_items(trained: Any, ruled: Any) -> None:
    some = "ban = 'category in (Shoes, Vases)'"
    many = "".join(f"[[rule]]\nban = 'category = {word}'\n" for word in ["Shoes", "Vases", *map(str, range(150))])

    def lists(text: str) -> list[list[str]]:
        shop = ruled(text)
        answers = [shop.query(trained.user, k=100), shop.similar("SKU-0001", k=100), shop.search("red", k=100)]
        return [ids(answer) for answer in (*answers, shop.query(trained.new_user, k=50, fallback="popular"))]

    assert lists(many) == lists(f"[[rule]]\n{some}\n") != lists("")


def test_long_lists_are_written_in_parts(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommend(trained.workspace, tmp_path / "whole", k=80)
    monkeypatch.setattr(batch, "_ROWS", 400)
    report = recommend(trained.workspace, tmp_path / "parts", k=80)
    whole, parts = read(tmp_path / "whole"), read(tmp_path / "parts")
    assert [(row["user_id"], row["item_id"]) for row in whole] == [(row["user_id"], row["item_id"]) for row in parts]
    assert (report.users, report.rows) == (len({row["user_id"] for row in whole}), len(whole))


@pytest.mark.parametrize("wrong", [{"k": 10_001}, {"processes": 1000}, {"users": "u0001"}, {"calibrate": "nothing"}])
def test_recommend_refuses_what_is_beyond_its_bound(trained: Any, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(RequestError):
        recommend(trained.workspace, tmp_path / "x.parquet", **wrong)
    with pytest.raises(DataError, match="is a folder"):
        recommend(trained.workspace, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_recommend_for_named_users_in_several_processes(
    trained: Any, recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_SHARD", 2)
    known = [user.user_id for user in next(recommender.generation.users.batches(5))]
    report = recommend(trained.workspace, tmp_path / "n.parquet", k=2, users=[*known, "nobody"], processes=2)
    assert (report.users, report.skipped) == (5, 1)
    assert [row["user_id"] for row in read(tmp_path / "n.parquet")] == [user for user in known for _ in range(2)]


def test_recommend_says_what_is_wrong_before_it_starts(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        recommend(trained.workspace, tmp_path / "x.parquet", where="nonsense =")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        recommend(trained.workspace, tmp_path / "file" / "x.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_rules_ban_comes_by_no_way(trained: Any, ruled: Any, recommender: Recommender) -> None:
    item = recommender.query(trained.user, k=1).items[0].item_id
    popular = recommender.query(trained.new_user, k=1, fallback="popular").items[0].item_id
    like = recommender.similar(item, k=1).items[0].item_id
    found = recommender.search("shoes", k=1).items[0].item_id
    shop = ruled(f"[[rule]]\nban = {[item, popular, like, found]!r}\n")
    assert item not in ids(shop.query(trained.user, k=K))
    assert popular not in ids(shop.query(trained.new_user, k=K, fallback="popular"))
    assert like not in ids(shop.similar(item, k=K))
    assert found not in ids(shop.search("shoes", k=K))
    assert ids(shop.search("shoes", k=1, rules=False)) == [found]
    assert ids(shop.similar(item, k=1, rules=False)) == [like]


def test_only_what_leaves_out_is_blamed(trained: Any, ruled: Any) -> None:
    boosting = ruled("[[rule]]\nboost = 'category = Shoes'\n").query(trained.user, k=500).shortfall
    assert boosting is not None
    assert "rules" not in boosting
    both = ruled("[[rule]]\nban = 'category = Shoes'\n").query(trained.user, k=500, where="price > 0").shortfall
    assert both is not None
    assert "the filter leaves out others, the rules leave out others" in both
