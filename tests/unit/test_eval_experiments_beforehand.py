"""Whether an experiment's treatment is refused by the shop's own event log, before anybody sees it."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from copies import copy_workspace

from molar_eval.kpi.impressions import logged_impressions
from molar_eval.kpi.prelaunch import arm_lists, verdict_beforehand, verdict_on_lists
from molar_indexes.recommender import Recommender
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import MissingArtefactError, SettingsError
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.workspace.artefacts import Workspace

DAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
LISTS = Arm()
TRIED = 8


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    """With lists that were answered, shown, and clicked where the row of the item is even: half of them, at .3."""
    root = tmp_path_factory.mktemp("beforehand") / "work"
    copy_workspace(trained.workspace, root)
    place, random = Workspace.open(root), np.random.default_rng(1)
    with Recommender.open(root) as recommender, closing(EventLog(place)) as log:
        users = recommender.generation.users
        people = [user.user_id for user in users.between(0, len(users)) if len(user.history)][:60]
        for day in range(2):
            recommender.now = DAY + timedelta(days=day)
            events = []
            for user in people:
                answer = recommender.query(user, k=TRIED)
                events.append(answer.impression(at=recommender.now))
                events += [clicked(answer, item.item_id, recommender.now) for item in taken(answer, random)]
            assert not log.append(list(enumerate(events, 1))).refused
    return place


def taken(answer, random):
    return [item for item in answer.items if random.random() < 0.3]


def clicked(answer, item, at):
    return {
        "event_id": f"{answer.request_id} {item}", "event": "click", "user_id": answer.user_id, "item_id": item,
        "timestamp": (at + timedelta(minutes=1)).isoformat(), "request_id": answer.request_id,
    }  # fmt: skip


def test_the_lists_of_a_moment_are_those_that_were_answered(workspace):
    """Nothing that came after them counts, so what was certain is there: nothing is drawn for lists of eight."""
    log, _ = logged_impressions(workspace)
    verdict = verdict_beforehand(workspace, LISTS, LISTS)
    assert (verdict.outcome, verdict.differing, verdict.requests) == ("pass", 0, len(log.contexts))
    assert set(log.propensity) == {1.0}
    shown = {}
    for context, item in zip(log.context.tolist(), log.item.tolist(), strict=True):
        shown.setdefault(context, []).append(log.items.id(item))

    def recorded(moments):
        assert [moment.person for moment in moments] == [log.users.id(int(user)) for user in log.user[log.first]]
        return list(shown.values())

    with arm_lists(workspace, LISTS) as (lists, _):
        again = verdict_on_lists(log, lists, recorded)
    assert (again.differing, again.requests) == (0, len(log.contexts))


def test_nothing_is_worse_than_lists_and_other_lists_cannot_be_told(workspace):
    nothing = verdict_beforehand(workspace, LISTS, Arm("nothing"), harm=0.1)
    assert nothing.outcome == "refuse"
    assert nothing.high == pytest.approx(-nothing.logged, abs=0.05)
    assert "a loss of more than 10%" in nothing.why[0]
    popular = verdict_beforehand(workspace, LISTS, Arm("popular"), harm=0.1)
    assert (popular.outcome, popular.missing > 0.5) == ("cannot_tell", True)
    assert popular.low < 0 < popular.high
    assert "was never shown" in popular.why[-1]


def test_no_more_requests_are_looked_at_than_asked_for(workspace):
    assert verdict_beforehand(workspace, LISTS, Arm("nothing"), most=7).requests == 7
    assert verdict_beforehand(workspace, LISTS, Arm("popular"), most=7).outcome == "cannot_tell"


def test_rules_and_options_of_an_arm_hold(workspace, tmp_path):
    with Recommender.open(workspace.root) as recommender:
        item = recommender.popular(k=1).items[0].item_id
    (rules := tmp_path / "rules.toml").write_text(f'[[rule]]\nban = "item_id = {item}"\n')
    banned = verdict_beforehand(workspace, LISTS, Arm(rules=str(rules)), most=20)
    assert 0 < banned.differing < 1
    varied = verdict_beforehand(workspace, LISTS, Arm(options={"diversity": 0.9}), most=20)
    assert varied.differing > 0.5
    (rules := tmp_path / "wrong.toml").write_text("[[rule]]\nban = 1\n")
    with pytest.raises(SettingsError):
        verdict_beforehand(workspace, LISTS, Arm(rules=str(rules)), most=20)
    with pytest.raises(MissingArtefactError):
        verdict_beforehand(workspace, LISTS, Arm(generation="none"), most=20)


def test_what_generations_have_learned_of_does_not_count(workspace):
    log, _ = logged_impressions(workspace)
    with arm_lists(workspace, LISTS) as (lists, known):
        assert known == 0, "this one was made without events"
        verdict = verdict_on_lists(log, lists, lambda moments: [[] for _ in moments], since=int(log.number.max()))
        second = int(log.number[len(log) // 2])
        half = verdict_on_lists(log, lists, lambda moments: [[] for _ in moments], since=second)
    assert (verdict.outcome, verdict.requests) == ("cannot_tell", 0)
    assert "since the generations" in verdict.why[0]
    assert 0 < half.requests < len(log.contexts)


def test_without_impressions_it_cannot_be_told(trained, tmp_path):
    copy_workspace(trained.workspace, tmp_path / "work")
    verdict = verdict_beforehand(Workspace.open(tmp_path / "work"), LISTS, Arm("nothing"))
    assert (verdict.outcome, verdict.why) == ("cannot_tell", ("there is no event log",))
