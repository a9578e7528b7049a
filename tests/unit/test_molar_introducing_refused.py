"""A treatment that the shop's own log refuses is seen by nobody, unless somebody says so."""

from contextlib import closing
from datetime import UTC, datetime

import pytest
from copies import copy_workspace

import molar
from molar.introducing.moving import advance
from molar_eval.experiments.results import Decision
from molar_indexes.recommender import Recommender
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import RequestError
from molar_retrieval.workspace.artefacts import Workspace

DAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOW = datetime(2027, 1, 4, tzinfo=UTC)
EMPTY = {"rule": [{"require": "item_id = none"}]}


@pytest.fixture(scope="module")
def shop(trained, tmp_path_factory):
    """With lists that were shown to 60 people, of whom each clicked one item."""
    root = tmp_path_factory.mktemp("refused") / ".molar"
    copy_workspace(trained.workspace, root)
    with Recommender.open(root) as recommender, closing(EventLog(Workspace.open(root))) as log:
        recommender.now, events = DAY, []
        users = recommender.generation.users
        for user in [one.user_id for one in users.between(0, len(users)) if len(one.history)][:60]:
            answer = recommender.query(user)
            click = {"event": "click", "user_id": user, "timestamp": DAY.isoformat(), "request_id": answer.request_id}
            item_id = answer.items[len(events) % 7].item_id
            events += [answer.impression(at=DAY), {"event_id": f"click {user}", "item_id": item_id, **click}]
        assert not log.append(enumerate(events, 1)).refused
    return molar.Shop(trained.shop, root)


def moved(shop, name, *, anyway=False):
    on = Decision("on", "interleaving", ("all is well",), automatic=False)
    at = int(NOW.timestamp() * 1e6) + 1
    facts = {"decide": lambda: on, "anyway": anyway, "activate": pytest.fail}
    return advance(Workspace.open(shop.workspace), name, None, at, "anna", **facts)


def test_it_leaves_the_shadow_only_if_somebody_says_so(shop):
    shop.experiments.start("empty", rules=EMPTY, anyway=True, now=NOW)
    with pytest.raises(RequestError, match=r"refuses the treatment: it would gain -.*a loss of more than 10%") as kept:
        moved(shop, "empty")
    assert "--anyway" in kept.value.hint
    assert shop.experiments.status("empty")[0].stage.stage == "shadow"
    assert moved(shop, "empty", anyway=True).stage == "interleaving"
    why = shop.experiments.status("empty")[0].stage.why
    assert why.startswith("anyway, against: the log of what was shown refuses")
    shop.experiments.stop("empty", now=NOW.replace(day=5))


def test_what_the_log_cannot_tell_goes_on(shop):
    shop.experiments.start("varied", options={"diversity": 0.5}, slice=(0, 0.5), now=NOW.replace(day=6))
    at = int(NOW.replace(day=7).timestamp() * 1e6)
    on = Decision("on", "interleaving", ("all is well",), automatic=False)
    place = Workspace.open(shop.workspace)
    went = advance(place, "varied", None, at, "", decide=lambda: on, anyway=False, activate=pytest.fail)
    assert went.stage == "interleaving"
    shop.experiments.stop("varied", now=NOW.replace(day=8))


def test_a_harm_of_all_clicks_refuses_nothing(shop):
    shop.experiments.start("bold", rules=EMPTY, harm={"clicks": 1.0}, now=NOW.replace(day=9))
    on = Decision("on", "interleaving", ("all is well",), automatic=False)
    at = int(NOW.replace(day=10).timestamp() * 1e6)
    place = Workspace.open(shop.workspace)
    assert advance(place, "bold", None, at, "", decide=lambda: on, anyway=False, activate=pytest.fail).stage != "shadow"


def test_what_is_meant_to_be_worse_begins(shop):
    began = shop.experiments.start("none", shows="nothing", layer="more", now=NOW.replace(day=11))
    assert (began.beforehand.outcome, began.stage.why) == ("refuse", "begun")
    with pytest.raises(RequestError, match="does harm, and nobody has to see it"):
        shop.experiments.start("empty again", rules=EMPTY, layer="others", now=NOW.replace(day=11))
