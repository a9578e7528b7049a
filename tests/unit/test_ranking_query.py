"""What may be asked: every option is honoured, or refused with a remedy, and completion shows those that are."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import molar
from molar_indexes.recommender import Recommender
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.query import Query

OTHER_THAN_USUAL: dict[str, Any] = {
    "filter_seen": False,
    "diversity": 0.9,
    "calibrate": "category",
    "calibration_weight": 0.9,
    "rerank": False,
    "explain": True,
    "language": "ja",
    "objective": "future_items",
    "context": "in_session",
}
UNHEEDED = {
    "similar": list(OTHER_THAN_USUAL),
    "search": [name for name in OTHER_THAN_USUAL if name != "filter_seen"],
}


@pytest.fixture(scope="module")
def recommender(trained: Any) -> Iterator[Recommender]:
    with Recommender.open(trained.workspace) as opened:
        yield opened


@pytest.mark.parametrize(("call", "option"), [(call, name) for call, names in UNHEEDED.items() for name in names])
@pytest.mark.parametrize("door", [False, True], ids=["recommender", "door"])
def test_an_option_that_changes_nothing_is_refused(
    trained: Any, recommender: Recommender, call: str, option: str, door: bool
) -> None:
    asked: Any = molar.Shop(trained.shop, trained.workspace) if door else recommender
    with pytest.raises(RequestError, match=f"{option} changes nothing in the answer of `{call}`") as error:
        getattr(asked, call)("SKU-0001", **{option: OTHER_THAN_USUAL[option]})
    assert "`query`" in error.value.hint


@pytest.mark.parametrize(
    ("options", "words", "remedy"),
    [
        ({"calibration_weight": 0.9}, "nothing to weigh", "calibrate"),
        ({"language": "ja"}, "not asked for", "explain"),
    ],
)
def test_an_option_of_an_option_that_is_not_there_is_refused(
    trained: Any, recommender: Recommender, options: dict[str, Any], words: str, remedy: str
) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: Query(**options),
        lambda: recommender.query(trained.user, **options),
        lambda: recommender.query(session=["SKU-0001"], **options),
    ]
    for ask in asks:
        with pytest.raises(RequestError, match=words) as error:
            ask()
        assert remedy in error.value.hint


def test_nobody_has_seen_anything(trained: Any, recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="concerns a user") as error:
        recommender.search("shoes", filter_seen=True)
    assert "user_id" in error.value.hint
    history = set(recommender.generation.users.get(trained.user).history)
    rows = recommender.generation.index.rows(
        [item.item_id for item in recommender.search("shoes", k=200, user_id=trained.user, filter_seen=True).items]
    )
    assert rows
    assert not history & set(rows)


def test_a_fallback_tells_what_it_does_not_heed(trained: Any, recommender: Recommender) -> None:
    plain = recommender.query(trained.new_user, k=3, fallback="popular")
    told = recommender.query(trained.new_user, k=3, fallback="popular", diversity=0.9, explain=True)
    assert plain.notes == []
    assert told.notes == ["the most popular items come as they are, without diversity, explain"]
    assert told.items == plain.items


def test_only_limits_what_is_similar(recommender: Recommender) -> None:
    found = recommender.similar("SKU-0001", k=5, candidates=["SKU-0001", "SKU-0002", "SKU-0003"])
    assert sorted(item.item_id for item in found.items) == ["SKU-0002", "SKU-0003"]
