"""What is on record of experiments: stages, units, lists, looks; who is in which arm."""

import multiprocessing
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from molar_retrieval.errors import DataError, MissingArtefactError, RequestError, SettingsError, StaleArtefactError
from molar_retrieval.experiments.assignment import HOUR, arm_of, arm_of_block, block_of, bucket, held_out, takes_part
from molar_retrieval.experiments.definition import STAGES, Arm, Experiment, Segment
from molar_retrieval.experiments.records import EDGES, Assignment, Look, ServedRow, ShadowRow
from molar_retrieval.experiments.store import SHADOWS, ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

DAY = 24 * HOUR
PEOPLE = [f"u{n}" for n in range(20_000)]
TRIED = Experiment("autumn", treatment=Arm(options={"diversity": 0.3}), salt="autumn-1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    tmp_path.joinpath("w").mkdir()
    return Workspace(tmp_path / "w")


@pytest.fixture
def store(workspace: Workspace) -> ExperimentStore:
    made = ExperimentStore(workspace, make=True)
    made.start(TRIED, "shadow", 100, "anna")
    return made


def test_a_definition_comes_back_as_it_was() -> None:
    whole = Experiment(
        "spring",
        control=Arm(generation="g1"),
        treatment=Arm(rules="spring.toml", options={"rerank": False}),
        segment=Segment("region = 'Kansai'", "category = 'wool'", ("home", "cart")),
        slice=(0.2, 0.7),
        harm={"clicks": 0.05},
        margin=0.3,
    )
    assert Experiment.from_dict(whole.to_dict()) == whole
    assert whole.harms["clicks"] == 0.05
    assert whole.harms["revenue"] == 0.1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"name": "a:b"}, "colon"),
        ({"name": ""}, "name"),
        ({"primary": "revenu"}, "revenue"),
        ({"slice": (0.5, 0.5)}, "slice"),
        ({"treated": 1.0}, "treated"),
        ({"treated": float("nan")}, "treated"),
        ({"treated": 0.05}, "below 0.05"),
        ({"treated": 0.9, "canary": 0.2}, "below 0.1"),
        ({"block_hours": 5}, "week"),
        ({"harm": {"click": 0.1}}, "clicks"),
        ({"harm": {"clicks": 0.0}}, "harm"),
        ({"unit": "time", "assigned": "elsewhere"}, "elsewhere"),
        ({"treatmnt": {}}, "treatment"),
        ({"treatment": {"shows": "list"}}, "lists"),
        ({"treatment": {"options": {"diversty": 1}}}, "diversity"),
        ({"treatment": {"shows": "popular", "generation": "g"}}, "leave them out"),
    ],
)
def test_a_wrong_definition_is_refused_with_what_is_meant(wrong: dict, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Experiment.from_dict({"name": "autumn", **wrong})
    assert named in f"{refused.value.message} {refused.value.hint}"


def test_draws_are_even_and_depend_on_the_salt() -> None:
    draws = [bucket("a", unit) for unit in PEOPLE]
    assert all(0 <= draw < 1 for draw in draws)
    assert all(1_800 < count < 2_200 for count in Counter(int(10 * draw) for draw in draws).values())
    both = sum((one < 0.5) == (bucket("b", unit) < 0.5) for one, unit in zip(draws, PEOPLE, strict=True))
    assert 9_700 < both < 10_300
    assert bucket("a", "u1") == pytest.approx(0.19586919, abs=1e-8)  # it must never change: people would change arms


def test_nobody_changes_when_a_stage_widens() -> None:
    canary = {unit: arm_of(TRIED, "canary", unit) for unit in PEOPLE}
    half = {unit: arm_of(TRIED, "ab", unit) for unit in PEOPLE}
    assert 850 < sum(arm == "treatment" for arm in canary.values()) < 1_150
    assert 850 < sum(arm == "control" for arm in canary.values()) < 1_150
    assert all(arm in (None, half[unit]) for unit, arm in canary.items())
    assert None not in half.values()
    assert {arm_of(TRIED, "everybody", unit) for unit in PEOPLE} == {"treatment"}
    assert {arm_of(TRIED, stage, "u1") for stage in ("shadow", "interleaving", "stopped")} == {None}


def test_slices_of_a_layer_are_disjoint_and_other_layers_independent() -> None:
    first, second = Experiment("a", slice=(0, 0.5)), Experiment("b", slice=(0.5, 1))
    assert all(takes_part(first, unit) != takes_part(second, unit) for unit in PEOPLE)
    other = Experiment("c", slice=(0, 0.5), layer="search")
    assert 0.45 < sum(takes_part(first, unit) == takes_part(other, unit) for unit in PEOPLE) / len(PEOPLE) < 0.55
    assert 850 < sum(held_out(unit, 0.05) for unit in PEOPLE) < 1_150
    assert not held_out("u1", 0)


@pytest.mark.parametrize("hours", [1, 6, 24])
def test_each_time_of_the_week_has_both_arms_in_two_weeks(hours: int) -> None:
    tried = Experiment("s", unit="time", block_hours=hours, salt="s")
    start = 2 * 52 * 2 * 7 * DAY  # an even week
    arms = [arm_of_block(tried, start + n * hours * HOUR) for n in range(336 // hours)]
    half = len(arms) // 2
    assert all(one != other for one, other in zip(arms[:half], arms[half:], strict=True))
    assert len({block_of(tried, start + n * HOUR) for n in range(336)}) == 336 // hours


def test_stages_are_added_and_the_last_one_holds(store: ExperimentStore, workspace: Workspace) -> None:
    assert store.find("autumn").stage.stage == "shadow"
    before = store.version()
    assert store.move("autumn", "canary", 200, "no error", "ben")
    assert store.version() > before
    assert not store.move("autumn", "canary", 300, "once more")
    with ExperimentStore(workspace) as again:
        assert [(row.stage, row.begun, row.why) for row in again.stages("autumn")] == [
            ("shadow", 100, "begun"), ("canary", 200, "no error")
        ]  # fmt: skip
        assert again.find("autumn").experiment == TRIED
    with pytest.raises(DataError, match="earlier"):
        store.move("autumn", "ab", 150, "the clock went back")
    assert store.move("autumn", "stopped", 400, "harm", automatic=True)
    assert store.stages("autumn")[-1].automatic
    assert not store.running()
    assert not store.move("autumn", "ab", 500, "it is over")
    with pytest.raises(RequestError, match="already"):
        store.start(TRIED, "shadow", 600)
    with pytest.raises(RequestError) as unknown:
        store.find("autum")
    assert "autumn" in unknown.value.hint


def test_where_nothing_began_there_is_nothing_and_no_file(workspace: Workspace) -> None:
    with ExperimentStore(workspace) as nothing:
        assert nothing.version() == 0
        assert nothing.all() == []
        assert len(nothing.units("autumn")) == 0
        with pytest.raises(MissingArtefactError, match="no experiment"):
            nothing.assign([Assignment("autumn", "u1", "control", 1)])
    assert list(workspace.root.iterdir()) == []


def test_the_first_assignment_and_trigger_of_a_unit_stay(store: ExperimentStore) -> None:
    store.assign([Assignment("autumn", f"u{n}", "control", n) for n in range(1_200)])
    store.assign([Assignment("autumn", "u1", "treatment", 9, "session")])
    store.trigger("autumn", [("u1", 50), ("u2", 60), ("nobody", 1)])
    store.trigger("autumn", [("u1", 40)])
    store.met_other("autumn", ["u2"])
    assert store.assigned("autumn", ["u1", "u1199", "u9999"]) == {"u1": "control", "u1199": "control"}
    found = {row["unit"]: row for row in store.units("autumn").to_pylist()}
    assert len(found) == 1_200
    assert found["u1"] == dict(unit="u1", arm="control", first=1, triggered=50, both=False, source="hash")
    assert found["u2"]["both"]
    assert found["u3"]["triggered"] is None
    assert sorted(store.counts("autumn")) == [
        ("control", False, False, 1_198), ("control", True, False, 1), ("control", True, True, 1)
    ]  # fmt: skip


def test_lists_answers_and_comparisons_come_back(store: ExperimentStore) -> None:
    store.record_lists("autumn", [("r1", "u1", 5, {"a": "control", "b": "treatment"})])
    assert store.lists("autumn").to_pylist() == [
        {"request_id": "r1", "unit": "u1", "at": 5, "teams": '{"a": "control", "b": "treatment"}'}
    ]
    counts = tuple(range(len(EDGES) + 1))
    first = ServedRow("control", 1, 4, 0, 1, 0, counts)
    store.record_served("autumn", "p1", [first])
    store.record_served("autumn", "p1", [later := ServedRow("control", 1, 9, 1, 1, 0, counts)])
    store.record_served("autumn", "p2", [first])
    assert sorted(store.served("autumn", 0, 60_000_000), key=lambda row: row.answers) == [first, later]
    assert store.served("autumn", 120_000_000, 180_000_000) == []
    rows = [ShadowRow(7, 0.4, 1.0, 2.0, control_price=3.0, treatment_empty=True), ShadowRow(8, 1.0, 1.0, 1.0)]
    store.record_shadows("autumn", rows)
    assert store.shadows("autumn") == rows
    assert store.shadows("autumn", 8) == rows[1:]


def test_of_comparisons_the_last_ones_are_kept(store: ExperimentStore) -> None:
    store.record_shadows("autumn", [ShadowRow(n, 1.0, 1.0, 1.0) for n in range(SHADOWS + 3)])
    kept = store.shadows("autumn")
    assert (kept[0].at, kept[-1].at, len(kept)) == (3, SHADOWS + 2, SHADOWS)


def test_a_look_is_never_made_again(store: ExperimentStore) -> None:
    look = Look(1, 700, "ab", "conversion", 0.25, 0.001, 1.5, 4.3, "wait", {"people": [10, 11]})
    assert store.look("autumn", look) == look
    other = Look(1, 800, "ab", "conversion", 0.3, 0.002, 5.0, 4.0, "on")
    assert store.look("autumn", other) == look
    assert store.looks("autumn") == [look]


def _assigns(root: Path, arm: str) -> None:
    with ExperimentStore(Workspace(root)) as store:
        for n in range(100):
            store.assign([Assignment("autumn", f"u{n}", arm, n)])


def test_processes_share_the_record(store: ExperimentStore, workspace: Workspace) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_assigns, args=(workspace.root, arm)) for arm in ("control", "treatment")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(store.units("autumn")) == 100


def test_a_record_of_a_later_version_or_a_broken_one_is_refused(store: ExperimentStore, workspace: Workspace) -> None:
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StaleArtefactError, match="format 99"):
        ExperimentStore(workspace).all()
    store.path.write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"experiments\.sqlite"):
        ExperimentStore(workspace).all()


def test_every_stage_has_a_share() -> None:
    assert [TRIED.treated_in(stage) for stage in STAGES] == [0, 0, 0.05, 0.5, 1.0, 0]
