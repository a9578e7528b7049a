"""What rules would change: the lists are those that two full answers give, however they are made."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from copies import copy_workspace

import molar
from molar_indexes.comparison import Compared, lists_by, sample
from molar_indexes.recommender import Recommender
from molar_retrieval.privacy.pseudonyms import user_key
from molar_retrieval.ranking.query import Query

RULES: tuple[list[dict[str, Any]], ...] = (
    [],
    [{"require": "price > 20"}],
    [{"boost": "price > 40", "by": 2.0}, {"pin": ["SKU-0001", "SKU-0002"], "at": 2}],
    [{"ban": "category = Lamps"}, {"at_most": 2, "per": "category"}, {"at_least": 3, "of": "price < 30"}],
    [{"boost": "price < 30"}, {"require": "price < 60"}, {"bury": "category = Vases"}],
)


@pytest.fixture(scope="module")
def shop(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("preview") / ".molar")
    since = {"event_id": "since", "event": "purchase", "user_id": trained.user, "item_id": "SKU-0001"}
    gone = {"event_id": "gone", "event": "item_withdraw", "item_id": "SKU-0003"}
    now = datetime.now(UTC).isoformat()
    molar.Shop(None, workspace).events.append([one | {"timestamp": now} for one in (since, gone)])
    with Recommender.open(workspace) as recommender, recommender.answering() as answerer:
        yield answerer


def test_lists_by_several_rules_are_those_that_each_person_gets(shop: Any) -> None:
    now, query, known = datetime.now(UTC), Query(k=10, explore=False), Compared()
    keys = [*sample(shop.generation.users, 25), user_key("nobody knows her")]
    for former, rules in pairwise(RULES):
        sides = [shop.ruled_by({"rule": some}) for some in (former, rules)]
        for side, lists in zip(sides, lists_by(sides, keys, now, known), strict=True):
            assert list(lists) == keys
            for key in keys:
                user, one = shop.generation.users.keyed(key), lists[key]
                if user is None:
                    full = side.query("nobody knows her", None, query, "popular", None, now)
                    assert [item.item_id for item in one.items] == [item.item_id for item in full.items]
                else:
                    (listing,) = (ranked.listing() for ranked in side.rank_many([user], query, now))
                    assert [item.row for item in one.items] == [place.row for place in listing.places]
                    assert list(one.notes) == list(listing.notes)
