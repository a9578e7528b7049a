"""From answers to impressions in the event log, and from these to the value of other lists, without bias."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from molar_eval.kpi.impressions import logged_impressions
from molar_eval.kpi.off_policy import evaluate_policy
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import DataError
from molar_retrieval.ranking.candidates import Candidates
from molar_retrieval.ranking.exploration import explored
from molar_retrieval.ranking.query import Exploration
from molar_retrieval.ranking.results import Recommendation, Recommendations
from molar_retrieval.workspace.artefacts import Workspace

THEN = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def answered(
    number: int, rows: Sequence[int], chances: Sequence[float | None], user: str | None = "anna"
) -> Recommendations:
    items = [
        Recommendation(rank, f"i{row}", None, 0.0, {}, rank, propensity=chance)
        for rank, (row, chance) in enumerate(zip(rows, chances, strict=True), 1)
    ]
    return Recommendations(user, len(items), "g", "aligned", items, None, [], {}, f"request {number}")


def append(workspace: Workspace, events: Sequence[dict[str, object]]) -> None:
    log = EventLog(workspace)
    done = log.append(list(enumerate(events, 1)))
    assert not done.refused, done.refusals
    log.close()


def came_of(answer: Recommendations, item: str, kind: str, number: int = 0) -> dict[str, object]:
    return {
        "event_id": f"{answer.request_id} {item} {kind} {number}", "event": kind, "user_id": "anna", "item_id": item,
        "timestamp": THEN.isoformat(), "request_id": answer.request_id,
    }  # fmt: skip


def test_answers_become_impressions_with_what_came_of_them(workspace: Workspace) -> None:
    first = answered(1, [3, 4], [1.0, 0.25])
    other = answered(2, [4, 5], [1.0, 0.5], user=None)
    shaped, long = answered(3, [3], [None]), answered(4, range(12), [*[1.0] * 9, 0.5, None, None])
    shown = [one.impression(at=THEN) for one in (first, shaped, long)]
    shown += [other.impression(at=THEN, session_id="s")]
    append(workspace, [*shown, came_of(first, "i4", "click"), came_of(first, "i4", "purchase")])
    append(workspace, [came_of(other, "i3", "click"), came_of(long, "i11", "view"), came_of(long, "i0", "search")])
    append(workspace, [shown[0]])
    log, left_out = logged_impressions(workspace)
    assert left_out == 1
    found = {
        (log.contexts.id(c), log.users.id(u), log.items.id(i)): (p, r)
        for c, u, i, p, r in zip(log.context, log.user, log.item, log.propensity, log.reward, strict=True)
    }
    assert found[("request 1", "anna", "i3")] == (1.0, 0.0)
    assert found[("request 1", "anna", "i4")] == (0.25, 1.0)
    assert found[("request 2", "@session:s", "i5")] == (0.5, 0.0)
    assert len(found) == len(log) == 2 + 2 + 10, "what stands behind the tenth place was not to be valued"
    assert set(log.timestamp.tolist()) == {int(THEN.timestamp())}
    assert log.reward.sum() == 1


def test_without_impressions_it_is_said_what_to_log(workspace: Workspace) -> None:
    with pytest.raises(DataError) as caught:
        logged_impressions(workspace)
    assert "impression()" in caught.value.hint
    append(workspace, [came_of(answered(1, [1], [1.0]), "i1", "click")])
    with pytest.raises(DataError, match="no impression"):
        logged_impressions(workspace)


def test_the_value_of_lists_without_draws_is_estimated_without_bias(workspace: Workspace) -> None:
    """New items are clicked by chances of their own; what other places for them would have earned comes out right."""
    random, count = np.random.default_rng(5), 6
    clicks = {**{row: 0.3 - 0.02 * row for row in range(14)}, **{100 + n: 0.05 + 0.1 * n for n in range(count)}}
    plan, events, lists = Exploration((9, 10), 1.0), [], 1500
    zeros, ones = np.zeros(14), np.ones(14)
    known = Candidates(np.arange(14), -np.arange(14.0)[:, None], zeros, zeros > 0, zeros, ones)
    new = Candidates(
        100 + np.arange(count), np.linspace(1, -1, count)[:, None], zeros[:count], ones[:count] > 0, zeros[:count],
        ones[:count],
    )  # fmt: skip
    for number in range(lists):
        one = explored(known, new, plan, str(number), 10)
        answer = answered(number, one.rows[:10].tolist(), one.propensity[:10].tolist(), f"user {number % 300}")
        events.append(answer.impression(at=THEN + timedelta(seconds=number)))
        for row in one.rows[:10].tolist():
            if random.random() < clicks[row]:
                events.append(came_of(answer, f"i{row}", "click"))
    append(workspace, events)
    log, left_out = logged_impressions(workspace)
    assert (left_out, len(log)) == (0, 10 * lists)
    for always in ((100, 101), (104, 105)):
        wanted = [*range(8), *always]
        target = np.isin([log.items.id(item) for item in log.item], [f"i{row}" for row in wanted]).astype(float)
        value = evaluate_policy(log, target).value("ips")
        truth = float(np.mean([clicks[row] for row in wanted]))
        assert value is not None
        assert value.low is not None
        assert value.high is not None
        assert value.low - 0.005 < truth < value.high + 0.005
        assert value.mean == pytest.approx(truth, abs=0.03)
