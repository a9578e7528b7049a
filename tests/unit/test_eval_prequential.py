"""A walk through time: what each step may see, what its arms do, what the report says."""

from dataclasses import replace
from pathlib import Path

import made_up_report as made_up
import numpy as np
import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT
from test_eval_splits import log_of

from molar_eval.evaluate import Evaluator
from molar_eval.models.base import EvaluationTask
from molar_eval.models.prequential import WindowStart, arms, last_held_out
from molar_eval.prequential import WalkRunner
from molar_eval.report import plots
from molar_eval.report.page import read_report, write_report
from molar_eval.report.schema import Estimate, WalkArm, WalkResult, WalkStep
from molar_eval.report.verdict import prequential_sentences
from molar_eval.splits import check_leaks, prequential, single_cases
from molar_eval.suite import Suite
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.models.als import open_log
from molar_retrieval.progress import SILENT
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

DAY = 86_400


def random_walk_log(seed: int, users: int = 40, n_items: int = 25, days: int = 40):
    """Users who come on several days, and take the same things again at times."""
    random = np.random.default_rng(seed)
    histories = []
    for _ in range(users):
        times = np.sort(random.integers(0, days * DAY, random.integers(1, 30)))
        histories.append([(int(random.integers(n_items)), int(time)) for time in times])
    return log_of(histories, n_items)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("window", "days"), [("day", 1), ("week", 7)])
def test_every_case_is_what_one_user_took_first_in_one_window(seed, window, days):
    log = random_walk_log(seed, days=40 * days)
    walk = prequential(log, steps=8, window=window, least=3)
    check_leaks(walk.split)
    assert len(walk.steps) == 8
    cases = walk.cases
    asked = {}
    for step in walk.steps:
        assert step.end - step.begin == days * DAY
        assert walk.start < step.begin
        for case in range(step.cases.start, step.cases.stop):
            user = int(cases.user[case])
            target = cases.targets[cases.offsets[case] : cases.offsets[case + 1]]
            asked[step.begin, user] = int(cases.length[case]), sorted(target.tolist())
    expected = {}
    for step in walk.steps:
        for user in range(log.n_users):
            own = slice(log.offsets[user], log.offsets[user + 1])
            time, item = log.timestamp[own], log.item[own]
            before = item[time < step.begin].tolist()
            new = set(item[(time >= step.begin) & (time < step.end)].tolist()) - set(before)
            if before and new:
                expected[step.begin, user] = len(before), sorted(new)
    assert asked == expected


def test_nothing_from_a_window_or_later_is_in_what_was_known_before_it():
    log = random_walk_log(5)
    walk = prequential(log, steps=5, window="day", least=2)
    assert walk.split.training.timestamp.max() < walk.start
    for step in walk.steps:
        assert walk.past(step.begin).timestamp.max() < step.begin
        inputs = walk.cases_of(step).inputs()
        assert inputs.timestamp.max() < step.begin
        assert (inputs.asked_at >= step.begin).all()
        assert (inputs.asked_at < step.end).all()


def test_a_changed_future_changes_no_step_before_it():
    log = random_walk_log(6)
    walk = prequential(log, steps=6, window="day", least=2)
    third = walk.steps[3]
    other = log.item.copy()
    later = log.timestamp >= third.end
    other[later] = (other[later] + 1) % log.n_items
    changed = prequential(replace(log, item=other), steps=6, window="day", least=1)
    same = [step for step in changed.steps if step.end <= third.end]
    for step in same:
        match = next(one for one in walk.steps if one.begin == step.begin)
        mine, theirs = walk.cases_of(match), changed.cases_of(step)
        assert mine.targets.tolist() == theirs.targets.tolist()
        assert mine.inputs().item.tolist() == theirs.inputs().item.tolist()


def test_auto_takes_weeks_where_days_are_too_thin():
    log = random_walk_log(7, users=60, days=200)
    assert prequential(log, steps=5, least=12).window == "week"
    assert prequential(random_walk_log(8), steps=5, least=3).window == "day"


def test_windows_with_few_cases_are_learned_from_but_not_asked():
    log = random_walk_log(9)
    quiet = log.timestamp // DAY == 37
    thin = log.select(~quiet)
    walk = prequential(thin, steps=6, window="day", least=2)
    assert all(step.begin // DAY != 37 for step in walk.steps)
    assert walk.split.facts["windows from the first to the last"] > len(walk.steps)


def test_a_log_that_is_too_short_is_refused_with_the_numbers():
    with pytest.raises(DataError, match="30 days or weeks"):
        prequential(random_walk_log(10))
    with pytest.raises(DataError, match="0"):
        prequential(log_of([[]]), steps=1)
    with pytest.raises(SettingsError, match="month"):
        prequential(random_walk_log(11), window="month")
    with pytest.raises(SettingsError, match="steps"):
        prequential(random_walk_log(11), steps=0)


ARMS = ("updated", "trained anew", "as it was", "all as it was")
BASELINES = ("recent popularity", "item-kNN")
WARM = "updated, warm start"


def task_of(log):
    """What models may see besides the past of a window."""
    everything = np.ones(log.n_items, bool)
    return EvaluationTask(log, single_cases(log, np.zeros(0, np.int64)), everything, None, "hide", Path())


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    flags = {"align": {**SMALL_ALIGNMENT, "preset": "instant"}}
    return MolarSettings.load(tmp_path_factory.mktemp("none"), environ={}, flags=flags)


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("walked") / "work"
    copy_workspace(trained.workspace, root)
    return Workspace.open(root)


@pytest.fixture(scope="module")
def suite():
    options = {"steps": 3, "window": "week", "least": 2}
    return Suite(
        name="small",
        description="A short walk.",
        models=(*ARMS, *BASELINES, WARM),
        splits=[{"split": "prequential", "options": options}],
        resamples=200,
        index=False,
        examples=0,
    )


@pytest.fixture(scope="module")
def finished(workspace, suite, settings):
    result = Evaluator(workspace, suite, settings).run()
    write_report(result.folder, result.report, None, workspace.catalogue)
    return result


def test_the_report_tells_each_step_and_what_is_kept(finished):
    (split,) = read_report(finished.folder / "report.json").splits
    walk = split.walk
    assert [model.name for model in split.models] == [*ARMS, *BASELINES]
    assert any("no towers" in note for note in finished.report.notes)
    assert walk.reference == "trained anew"
    assert split.against in BASELINES
    assert [model.name for model in split.models if model.kind == "ours"] == ["updated"]
    assert sum(step.cases for step in walk.steps) == split.cases
    assert all(step.learned > 0 for step in walk.steps)
    for model, arm in zip(split.models, walk.arms, strict=True):
        total = sum(value * step.cases for value, step in zip(arm.values, walk.steps, strict=True))
        assert total / split.cases == pytest.approx(model.metrics["ndcg@10"].mean, abs=1e-5)
    updated, anew, fresh, _, *others = walk.arms
    assert all(arm.kept is arm.cost is arm.cpu_cost is None and all(arm.seconds) for arm in others)
    assert 0 < updated.cpu_cost < 1
    assert anew.kept is None
    assert all(anew.seconds)
    assert not any(fresh.seconds)
    assert fresh.cost == 0
    ratio = split.models[2].metrics["ndcg@10"].mean / split.models[1].metrics["ndcg@10"].mean
    assert fresh.kept.mean == pytest.approx(ratio, rel=1e-4)
    assert fresh.kept.low <= fresh.kept.mean <= fresh.kept.high
    page = (finished.folder / "report.html").read_text("utf-8")
    assert "updated keeps" in page


def test_a_second_walk_reads_its_steps_and_a_killed_one_goes_on(finished, workspace, suite, settings):
    told = []
    again = Evaluator(workspace, suite, settings, tell=told.append).run()
    assert ["kept from before" in line for line in told] == [True] * (len(ARMS) + len(BASELINES)) + [False]
    assert again.report.splits[0].walk == finished.report.splits[0].walk
    (anew,) = (workspace.root / "evaluation" / "walks").glob("trained-anew-*")
    (anew / "step-002.json").unlink()  # killed before its last step was over
    told.clear()
    continued = Evaluator(workspace, suite, settings, tell=told.append).run()
    assert [("fitted in" in line) for line in told] == [False, True] + [False] * 5
    assert [arm.values for arm in continued.report.splits[0].walk.arms] == [
        arm.values for arm in again.report.splits[0].walk.arms
    ]


def test_no_arm_sees_anything_of_a_window_before_it_is_asked(finished, workspace, settings, tmp_path):
    """In a world in which everybody takes something else in the last window, all lists are the same up to its end."""
    log = open_log(workspace)
    true = prequential(log, steps=3, window="week", least=2)
    last = true.steps[-1]
    other = log.item.copy()
    late = log.timestamp >= last.begin
    other[late] = (other[late] + 7) % log.n_items
    changed = prequential(replace(log, item=other), steps=3, window="week", least=2)
    lists = []
    for number, walk in enumerate((true, changed)):
        runner = WalkRunner(walk, workspace, settings, task_of(log), 10, tmp_path / str(number), 1 << 24)
        found = {}
        for arm in arms((*ARMS, *BASELINES), settings):
            items = runner.run(arm).trial.ranked["new items by week"].items
            for step in walk.steps:
                for case in range(step.cases.start, step.cases.stop):
                    found[arm.name, step.begin, int(walk.cases.user[case])] = items[case].tolist()
        lists.append(found)
    common = set(lists[0]) & set(lists[1])
    assert any(begin == last.begin for _, begin, _ in common)
    assert all(lists[0][case] == lists[1][case] for case in common)


@pytest.mark.parametrize("seed", range(3))
def test_baselines_choose_by_what_people_took_last_and_count_all_of_the_past(seed, workspace):
    log = random_walk_log(seed)
    held = last_held_out(task_of(log))
    cases = held.validation
    for user in range(log.n_users):
        own = log.item[log.offsets[user] : log.offsets[user + 1]]
        taken = held.training.item[held.training.offsets[user] : held.training.offsets[user + 1]]
        new = len(own) >= 3 and own[-1] not in own[:-1]
        assert taken.tolist() == (own[:-1] if new else own).tolist()
        assert cases.targets[cases.user == user].tolist() == ([own[-1]] if new else [])
        assert (cases.length[cases.user == user] == len(own) - 1).all()
    (arm,) = arms(["popularity"], MolarSettings())
    scorer, cost = arm.advance(WindowStart(workspace, workspace, task_of(log), log), SILENT)
    counts = np.bincount(log.item, minlength=log.n_items).astype(np.float32)
    counts[counts == 0] = -np.inf
    assert (scorer.scores(cases.inputs()) == counts).all()
    assert cost.seconds > 0


@pytest.mark.parametrize(
    ("name", "threshold", "onwards"), [(WARM, None, True), ("updated", 0.0001, True), ("updated", 0.9, False)]
)
def test_towers_are_trained_on_from_the_step_before(workspace, tmp_path, name, threshold, onwards):
    log = open_log(workspace)
    walk = prequential(log, steps=2, window="week", least=2)
    flags = {"align": {**SMALL_ALIGNMENT, "threads": 1}, "update": {"drift": None, "retrain_threshold": threshold}}
    options = MolarSettings.load(tmp_path, environ={}, flags=flags)
    runner = WalkRunner(walk, workspace, options, task_of(log), 10, tmp_path / "walk", 1 << 24)
    (arm,) = arms([name], options)
    found = runner.run(arm)
    assert len(found.costs) == 2
    assert all(cost.seconds > 0 for cost in found.costs)
    (place,) = (tmp_path / "walk").glob("updated*/step-001")
    facts = Workspace(place)["alignment"].require()[1].facts
    assert facts["derived"]["updates"] == 3, "one with the first training, one a step"
    assert ("warm" in facts) == onwards, facts["derived"]
    if onwards:
        assert facts["warm"]["until"] == walk.past(walk.steps[-1].begin).timestamp.max()
    assert len(found.trial.ranked["new items by week"].items) == len(walk.cases)


def test_what_a_walk_does_not_know_is_told(workspace, suite, settings):
    def run(**changes):
        Evaluator(workspace, suite.model_copy(update=changes), settings).run()

    with pytest.raises(SettingsError, match="no arm 'molar'"):
        run(models=("molar",))
    plan = suite.splits[0]
    with pytest.raises(SettingsError, match="no option 'stride'"):
        run(splits=(plan.model_copy(update={"options": {"stride": 2}}),))
    with pytest.raises(SettingsError, match="new to people"):
        run(splits=(plan.model_copy(update={"seen": ("show",)}),))


def walked_split(**arms):
    """A split with a walk of two weeks: by name what is kept and the share of the time."""
    steps = [WalkStep(begin="2020-01-06T00:00:00+00:00", cases=3, learned=5)] * 2
    made = [
        WalkArm(
            name=name.replace("_", " "),
            values=[0.1, 0.2],
            seconds=[cost or 0.0] * 2,
            cpu_seconds=[cost or 0.0] * 2,
            kept=None if kept is None else Estimate(mean=kept, low=kept - 0.02, high=kept + 0.02),
            cost=None if kept is None else cost,
            cpu_cost=None if kept is None else cost,
        )
        for name, (kept, cost) in arms.items()
    ]
    walk = WalkResult(window="week", reference="trained anew", steps=steps, arms=made)
    return made_up.split("prequential").model_copy(update={"walk": walk})


def test_training_anew_is_what_others_are_compared_to_where_no_baseline_takes_part(settings):
    kinds = {tuple(names): [arm.kind for arm in arms(names, settings)] for names in (ARMS[:2], [*ARMS[:2], "item-kNN"])}
    assert list(kinds.values()) == [["ours", "baseline"], ["ours", "ablation", "baseline"]]


def test_a_walk_in_words():
    split = walked_split(updated=(0.99, 0.08), trained_anew=(None, 1.0), as_it_was=(0.9, 0.0))
    learning, idle = prequential_sentences(split)
    assert learning.replace("\N{NO-BREAK SPACE}", " ") == (
        "updated keeps 99.0 % (95 % interval over users 97.0 % to 101.0 %) of the NDCG@10 of trained anew"
        " at 8.0 % of its time, over 2 weeks."
    )
    assert idle.startswith("Learning nothing, as it was keeps 90.0")
    assert prequential_sentences(made_up.split("temporal")) == []
    assert [row[0].text for row in plots.overview(split).rows] == ["updated", "trained anew", "as it was"]
    assert len(plots.steps(split, split.walk).rows) == 2
    assert plots.kept(split, split.walk) is None, "two steps are too few to draw a share"
