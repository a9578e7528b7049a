"""Experiments as a server answers them: who gets which arm, what is written down, what never reaches a page."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from test_indexes_generations import release, users
from web_server import program, service_of, until_ready

from molar_eval.experiments.routing import clock
from molar_indexes.recommender import Recommender
from molar_retrieval.experiments.assignment import arm_of, block_of, held_out
from molar_retrieval.experiments.definition import Arm, Experiment, Segment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.app import application
from molar_serving.auth import redact_for_pages
from molar_serving.service import ExperimentWatch, Service
from molar_serving.studio.people import Somebody
from molar_serving.studio.screens.customers import remade
from molar_serving.wire import InExperiment, ListAnswer

WORKERS = os.environ.get("MOLAR_TEST_WORKERS", "1")
"""Processes of the server that is killed; 2 for the full strength."""
HOLDOUT = 0.2
PEOPLE = [f"user {row}" for row in range(40)]
FREE = [name for name in PEOPLE if not held_out(name, HOLDOUT)]
SETTINGS = f"[experiments]\nshadow = 100\nholdout = {HOLDOUT}\nwatch = 3600\n"


def people(mark):
    """Users of a generation, every other one of Japan."""
    for row, user in enumerate(users(mark)):
        yield replace(user, attributes={"country": "JP" if row % 2 else "DE"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop with a live generation, and one that is not live, of which some lists differ."""
    root = tmp_path_factory.mktemp("experiments")
    (root / "shop").mkdir()
    (root / "molar.toml").write_text(SETTINGS)
    workspace = Workspace.for_catalogue(root / ".molar", root / "shop")
    for mark in (1, 2):
        facts = {"mark": mark, "segments": {"country": "keyword"}}
        release(workspace, mark, "exact", users=people(mark), facts=facts, activate=mark == 1).close()
    return workspace


@pytest.fixture(scope="module")
def staged(shop):
    """The name of the generation that is not live."""
    return next(one.name for one in shop["generations"].versions() if one.name != shop["generations"].pointer)


@contextmanager
def serving(shop: Workspace, settings: Path | None = None) -> Iterator[tuple[TestClient, Service]]:
    service = service_of(shop.root, settings)
    app = application(service)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        until_ready(client)
        yield client, service


@pytest.fixture(scope="module")
def served(shop):
    with serving(shop) as found:
        yield found


@pytest.fixture(scope="module")
def client(served):
    return served[0]


@pytest.fixture
def begin(shop, served, request):
    """Begins an experiment in a stage, which the server answers by from then on; it ends with the test."""
    begun = []
    with ExperimentStore(shop, make=True) as store:

        def start(treatment=None, stage="ab", **more):
            name = more.pop("name", request.node.name[5:60])
            one = Experiment(name, salt=name, treatment=treatment or Arm(options={"diversity": 0.5}), **more)
            store.start(one, stage, clock())
            begun.append(name)
            served[1].experiments.catch_up()
            return one

        start.store, start.flush = store, lambda: served[1].experiments.flush()
        start.move = lambda name, stage: (store.move(name, stage, clock(), "test"), served[1].experiments.catch_up())
        yield start
        for name in begun:
            store.move(name, "stopped", clock(), "over")
        served[1].experiments.catch_up()


def ask(client, user=None, **body):
    answer = client.post("/v1/recommendations", json=({} if user is None else {"user_id": user}) | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def arms(client, names=PEOPLE, **body):
    """The arm of each person, None of whom is in no experiment."""
    told = {name: ask(client, name, **body)["experiment"] for name in names}
    return {name: None if one is None else one["arm"] for name, one in told.items()}


def on_record(begin, name):
    begin.flush()
    return {row["unit"]: row for row in begin.store.units(name).to_pylist()}


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


def test_without_experiments_no_answer_tells_of_one(client):
    assert set(arms(client).values()) == {None}


def test_everybody_gets_the_list_of_their_arm_and_is_on_record(client, shop, staged, begin):
    one = begin(Arm(generation=staged))
    live = shop["generations"].pointer
    for name in PEOPLE:
        answer = ask(client, name)
        arm = arm_of(one, "ab", name) if name in FREE else None
        assert answer["experiment"] == (None if arm is None else {"name": one.name, "arm": arm})
        assert answer["generation"] == (staged if arm == "treatment" else live)
    rows = on_record(begin, one.name)
    assert {name: row["arm"] for name, row in rows.items()} == {name: arm_of(one, "ab", name) for name in FREE}
    assert {row["source"] for row in rows.values()} == {"hash"}
    told = begin.store.served(one.name, 0, clock())
    assert sum(row.answers for row in told) == len(FREE) == sum(map(sum, (row.milliseconds for row in told)))
    assert {row.errors for row in told} == {row.late for row in told} == {row.empty for row in told} == {0}
    page = client.get("/metrics").text
    assert f'molar_experiment_answers_total{{arm="treatment",experiment="{one.name}"}}' in page


def test_who_met_a_difference_is_triggered_and_nobody_else(client, shop, staged, begin):
    one = begin(Arm(generation=staged))
    with Recommender.open(shop.root) as live, Recommender.open(shop.root, staged) as other:
        differing = {
            name
            for name in FREE
            if [item.item_id for item in live.query(name).items] != [item.item_id for item in other.query(name).items]
        }
    assert 0 < len(differing) < len(FREE)
    arms(client)
    assert {name for name, row in on_record(begin, one.name).items() if row["triggered"]} == differing


def test_nobody_flips_when_a_stage_widens_or_the_server_is_another_one(client, shop, begin):
    one = begin(stage="canary", canary=0.2)
    before = {name: arm for name, arm in arms(client).items() if arm}
    assert {"control", "treatment"} == set(before.values())
    assert len(before) < len(FREE)
    begin.move(one.name, "ab")
    after = arms(client)
    assert before.items() <= after.items()
    assert {name for name, arm in after.items() if arm} == set(FREE)
    begin.flush()
    with serving(shop) as (another, _):
        assert arms(another) == after


def test_what_is_on_record_counts_more_than_the_hash(client, begin):
    from molar_retrieval.experiments.records import Assignment

    one = begin()
    other = "control" if arm_of(one, "ab", FREE[0]) == "treatment" else "treatment"
    begin.store.assign([Assignment(one.name, FREE[0], other, 1)])
    assert arms(client, FREE[:1]) == {FREE[0]: other}


def sessions_by_arm(one, prefix):
    found = {}
    for number in range(100):
        key = f"@session:{prefix}{number}"
        if not held_out(key, HOLDOUT):
            found.setdefault(arm_of(one, "ab", key), f"{prefix}{number}")
    return found


def test_a_session_that_turns_out_to_be_a_user_keeps_its_arm(client, begin):
    one = begin()
    by_arm = sessions_by_arm(one, "merge")
    treated = next(name for name in FREE if arm_of(one, "ab", name) == "treatment")
    session = by_arm["control"]
    assert ask(client, anonymous_id=session)["experiment"]["arm"] == "control"
    assert ask(client, treated, anonymous_id=session)["experiment"]["arm"] == "control"
    assert ask(client, treated)["experiment"]["arm"] == "control"
    row = on_record(begin, one.name)[treated]
    assert (row["arm"], row["source"], row["both"]) == ("control", "session", False)


def test_a_session_that_the_log_identifies_is_its_user(client, begin):
    one = begin()
    session, user = sessions_by_arm(one, "known")["control"], "somebody new"
    assert not held_out(user, HOLDOUT)
    assert ask(client, anonymous_id=session)["experiment"]["arm"] == "control"
    event = {"event_id": f"identify {session}", "event": "identify", "user_id": user, "anonymous_id": session}
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    assert ask(client, anonymous_id=session)["experiment"]["arm"] == "control"
    assert ask(client, user)["experiment"]["arm"] == "control"
    assert on_record(begin, one.name)[user]["source"] == "session"


def test_who_had_both_arms_is_marked_and_flips_no_more(client, begin):
    one = begin()
    treated = next(name for name in FREE[::-1] if arm_of(one, "ab", name) == "treatment")
    session = sessions_by_arm(one, "both")["control"]
    assert ask(client, treated)["experiment"]["arm"] == "treatment"
    assert ask(client, anonymous_id=session)["experiment"]["arm"] == "control"
    assert ask(client, treated, anonymous_id=session)["experiment"]["arm"] == "treatment"
    rows = on_record(begin, one.name)
    assert rows[treated]["both"]
    assert rows[f"@session:{session}"]["both"]
    assert sum(row["both"] for row in rows.values()) == 2


def test_who_had_both_arms_is_found_by_the_log_as_well(client, begin):
    one = begin()
    treated = next(name for name in FREE if arm_of(one, "ab", name) == "treatment")
    session = sessions_by_arm(one, "found")["control"]
    ask(client, treated)
    ask(client, anonymous_id=session)
    event = {"event_id": f"identify {session}", "event": "identify", "user_id": treated, "anonymous_id": session}
    client.post("/v1/events", json=event)
    assert ask(client, anonymous_id=session)["experiment"]["arm"] == "treatment"
    rows = on_record(begin, one.name)
    assert {unit for unit, row in rows.items() if row["both"]} == {treated, f"@session:{session}"}


def test_a_segment_of_people_of_items_and_of_places(client, begin):
    begin(
        segment=Segment(people="country = JP", items="item_id = 'item 7' or item_id = 'item 8'", placements=("home",))
    )
    inside = {"user 7"}  # of Japan, with item 7 or, one further, item 8 in the history
    assert {name for name, arm in arms(client, placement="home").items() if arm} == inside - {
        name for name in inside if name not in FREE
    }
    assert set(arms(client, placement="basket").values()) == {None}
    assert ask(client, anonymous_id="nobody", placement="home")["experiment"] is None


def test_experiments_of_one_layer_have_different_people(client, begin):
    begin(name="lower", slice=(0.0, 0.5))
    begin(name="upper", slice=(0.5, 1.0))
    told = {name: ask(client, name)["experiment"]["name"] for name in FREE}
    assert set(told.values()) == {"lower", "upper"}
    rows = {name: on_record(begin, name).keys() for name in ("lower", "upper")}
    assert rows["lower"] & rows["upper"] == set()
    assert rows["lower"] | rows["upper"] == set(FREE)


def test_an_arm_without_its_generation_breaks_no_page(client, begin):
    one = begin(Arm(generation="20200101-000000-00000000"))
    plain = {name: ids(ask(client, name, dry_run=True)) for name in PEOPLE}
    for name in FREE:
        answer = ask(client, name)
        assert ids(answer) == plain[name]
        treated = answer["experiment"]["arm"] == "treatment"
        assert any("the treatment arm of experiment" in note for note in answer["notes"]) == treated
    begin.flush()
    told = begin.store.served(one.name, 0, clock())
    assert sum(row.errors for row in told) == sum(row.answers for row in told if row.arm == "treatment") > 0
    assert not any(row["triggered"] for row in on_record(begin, one.name).values())


def test_what_fails_in_the_treatment_reaches_no_page_and_what_is_asked_wrongly_is_no_failure_of_it(client, begin):
    one = begin(Arm(options={"calibrate": "no such field"}))
    answers = [ask(client, name) for name in FREE]
    assert all(answer["items"] for answer in answers)
    wrong = [client.post("/v1/recommendations", json={"user_id": name, "where": "((("}) for name in FREE]
    assert {answer.status_code for answer in wrong} == {422}
    begin.flush()
    told = begin.store.served(one.name, 0, clock())
    assert sum(row.answers for row in told) == len(FREE)
    assert sum(row.errors for row in told) == sum(row.answers for row in told if row.arm == "treatment")


def test_nobody_sees_anything_of_a_shadow_stage(client, staged, begin):
    plain = {name: ids(ask(client, name)) for name in PEOPLE}
    one = begin(Arm(generation=staged), stage="shadow")
    for name in FREE[:8]:
        answer = ask(client, name)
        assert (answer["experiment"], ids(answer)) == (None, plain[name])
    begin.flush()
    rows = begin.store.shadows(one.name)
    assert len(rows) == 8
    assert all(0 <= row.overlap <= 1 and row.control_ms > 0 and row.treatment_ms > 0 for row in rows)
    assert min(row.overlap for row in rows) < 1
    assert begin.store.units(one.name).num_rows == 0


def test_an_interleaved_list_is_of_both_and_its_teams_are_on_record(client, begin):
    one = begin(Arm(options={"diversity": 1.0}), stage="interleaving")
    answers = {name: ask(client, name) for name in FREE}
    assert {answer["experiment"]["arm"] for answer in answers.values()} == {"interleaved"}
    assert {answer["next"] for answer in answers.values()} == {None}
    begin.flush()
    lists = {row["unit"]: row for row in begin.store.lists(one.name).to_pylist()}
    assert lists.keys() == answers.keys()
    for name, answer in answers.items():
        teams = json.loads(lists[name]["teams"])
        assert lists[name]["request_id"] == answer["recommendation_id"]
        assert teams.keys() <= set(ids(answer))
        assert len(set(ids(answer))) == len(answer["items"]) == 10
        assert [item["rank"] for item in answer["items"]] == list(range(1, 11))
    assert any(json.loads(row["teams"]) for row in lists.values())
    refused = client.post(f"/v1/recommendations/{answer['recommendation_id']}/next", json={})
    assert refused.status_code == 422


def test_a_service_of_the_shop_may_assign(client, begin):
    one = begin(assigned="elsewhere")
    name, other = FREE[:2]
    assert ask(client, name)["experiment"] is None
    assert ask(client, name, arms={one.name: "treatment"})["experiment"]["arm"] == "treatment"
    assert ask(client, name)["experiment"]["arm"] == "treatment"
    assert ask(client, other, arms={one.name: "control"})["experiment"]["arm"] == "control"
    assert ask(client, other, arms={one.name: "treatment"})["experiment"]["arm"] == "treatment"
    rows = on_record(begin, one.name)
    assert {unit: (row["arm"], row["source"], row["both"]) for unit, row in rows.items()} == {
        name: ("treatment", "elsewhere", False),
        other: ("control", "elsewhere", True),
    }
    assert client.post("/v1/recommendations", json={"user_id": name, "arms": {one.name: "b"}}).status_code == 422


def test_arms_may_show_what_most_people_took_or_nothing(client, begin):
    one = begin(Arm(shows="nothing"), control=Arm(shows="popular"))
    for name in FREE:
        answer = ask(client, name)
        if answer["experiment"]["arm"] == "treatment":
            assert (answer["items"], answer["basis"], answer["next"]) == ([], "nothing", None)
        else:
            assert answer["basis"] == "popularity"
    rows = on_record(begin, one.name)
    assert all(row["triggered"] for row in rows.values())
    assert not any(row.empty for row in begin.store.served(one.name, 0, clock()))


def test_a_list_is_shown_again_and_goes_on_by_its_arm(client, shop, staged, begin):
    one = begin(Arm(generation=staged))
    name = next(name for name in FREE if arm_of(one, "ab", name) == "treatment")
    first = client.post("/v1/recommendations", json={"user_id": name, "k": 5})
    path = f"/v1/recommendations/{first.json()['recommendation_id']}"
    assert client.get(path).content == first.content
    second = client.get(f"{path}/next", params={"k": 5}).json()
    assert (second["generation"], second["experiment"]) == (staged, first.json()["experiment"])
    with Recommender.open(shop.root, staged) as other:
        assert ids(first.json()) + ids(second) == [item.item_id for item in other.query(name).items]
    begin.move(one.name, "stopped")
    third = client.get(f"{path}/next", params={"k": 5}).json()
    assert (third["generation"], ids(third)) == (staged, ids(second))
    assert any("is over" in note for note in third["notes"])


def test_the_time_machine_says_of_which_arm_a_list_is(served, begin, staged, monkeypatch):
    client, service = served
    one = begin(Arm(generation=staged))
    name = next(name for name in FREE if arm_of(one, "ab", name) == "treatment")
    answer_id = ask(client, name)["recommendation_id"]
    made = remade(service, Somebody(name), answer_id=answer_id)
    assert (made.verdict, made.generation, made.experiments) == ("same", staged, ((one.name, "treatment"),))
    begin.flush()
    then = remade(service, Somebody(name), at=clock() / 1e6)
    assert then.experiments == ((one.name, "treatment"),)
    assert remade(service, Somebody(name), at=clock() / 1e6 - 3600).experiments == ()


def test_the_page_of_a_person_says_that_an_arm_shows_them_another_list(client, begin):
    one = begin()
    arms(client)
    begin.flush()
    page = client.get(f"/studio/people/{FREE[0]}")
    assert page.status_code == 200
    assert f'data-experiment="{one.name}"' in page.text
    begin.move(one.name, "stopped")
    assert "data-experiment" not in client.get(f"/studio/people/{FREE[0]}").text


def test_at_the_end_everybody_has_the_treatment_but_those_held_out(client, begin):
    one = begin()
    arms(client)
    begin.move(one.name, "everybody")
    assert arms(client) == {name: "treatment" if name in FREE else "control" for name in PEOPLE}
    rows = on_record(begin, one.name)
    assert {rows[name]["source"] for name in PEOPLE if name not in FREE} == {"holdout"}


def test_blocks_of_time_have_one_arm_for_everybody(client, begin):
    one = begin(unit="time", block_hours=24)
    told = arms(client, FREE)
    assert len(set(told.values())) == 1
    assert ask(client, anonymous_id="nobody")["experiment"]["arm"] == told[FREE[0]]
    (unit,) = on_record(begin, one.name)
    assert unit == block_of(one, clock())


def test_a_late_list_counts_as_one_of_its_arm(served, begin, monkeypatch):
    client, service = served
    one = begin()
    monkeypatch.setattr(service.answers, "seconds", 100.0)
    monkeypatch.setattr(service.answers._pool, "under_way", 50)
    late = client.post("/v1/recommendations", json={"user_id": FREE[0]}, headers={"prefer": "wait=0.5"}).json()
    assert (late["basis"], late["experiment"]["name"]) == ("popularity", one.name)
    begin.flush()
    (row,) = begin.store.served(one.name, 0, clock())
    assert (row.answers, row.late, row.errors) == (1, 1, 0)


def test_a_dry_run_leaves_no_trace(client, begin):
    one = begin()
    told = arms(client, dry_run=True)
    assert on_record(begin, one.name) == {}
    assert begin.store.served(one.name, 0, clock()) == []
    assert arms(client) == told


def test_a_page_is_told_the_arm():
    about = {"basis": "aligned", "known": True, "items": [], "notes": ["x"], "shortfall": None, "events": 0}
    arm = InExperiment(name="x", arm="control")
    told = ListAnswer(recommendation_id="a", generation="g", milliseconds={}, experiment=arm, **about)
    assert (redact_for_pages(told).experiment, told.notes) == (arm, [])


def test_what_an_experiment_shows_is_not_pruned_and_what_is_live_may_change(client, shop, staged, begin):
    one = begin(Arm(generation=staged))
    for mark in (3, 4, 5):
        release(shop, mark, "exact", users=people(mark), keep=1).close()
    kept = {folder.name for folder in shop["generations"].versions()}
    assert staged in kept
    treated, other = (next(name for name in FREE if arm_of(one, "ab", name) == arm) for arm in ("treatment", "control"))
    assert ask(client, treated)["generation"] == staged
    served_by = shop["generations"].pointer
    client.post(f"/v1/generations/{served_by}/activate")
    assert ask(client, other)["generation"] == served_by


def test_one_process_looks_and_takes_back_what_does_harm(shop, begin, tmp_path, caplog):
    (tmp_path / "molar.toml").write_text(SETTINGS.replace("watch = 3600", "watch = 1"))
    one = begin(Arm(options={"calibrate": "no such field"}), stage="canary", canary=0.5)
    with serving(shop, tmp_path / "molar.toml") as (client, service):
        for _ in range(8):
            arms(client)
        service.experiments.flush()
        end = time.monotonic() + 60
        while begin.store.find(one.name).stage.stage == "canary":
            assert time.monotonic() < end, caplog.text
            time.sleep(0.1)
        stage = begin.store.find(one.name).stage
        assert (stage.stage, stage.automatic) == ("shadow", True)
        service.experiments.catch_up()
        assert set(arms(client).values()) == {None}
        other = ExperimentWatch(service.shop, 3600, lambda: True)
        assert service.watch._is_ours()
        assert not other._is_ours()
    assert any(one.name in record.message and "shadow" in record.message for record in caplog.records)
    assert other._is_ours()  # its process has ended
    other.close()


def test_assignments_outlive_a_kill(shop, begin):
    one = begin()
    with program(shop.root, "--workers", WORKERS) as first, first.client() as client:
        before = arms(client)
        first.end(signal.SIGKILL)
    with serving(shop) as (client, _):
        assert arms(client) == before == {name: arm_of(one, "ab", name) if name in FREE else None for name in PEOPLE}
