"""The whole of an evaluation on a small shop."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from eval_peeking import peeks
from settings_for_tests import SMALL_ALIGNMENT

from molar_eval import evaluate
from molar_eval.evaluate import Evaluator
from molar_eval.model_runs import read_scores, scores_path
from molar_eval.models.base import EvaluationTask
from molar_eval.models.content_variants import content_workspace
from molar_eval.models.ours import Molar
from molar_eval.regression_gate import gate
from molar_eval.report.page import read_report, write_report
from molar_eval.report.verdict import View, bottom_line, judge
from molar_eval.results import best_baseline, rivals
from molar_eval.splits import leave_one_out, temporal
from molar_eval.statistics import holm
from molar_eval.suite import Suite, knows_only_days, load, names
from molar_indexes.recommender import Recommender
from molar_retrieval.data.prepare import is_current, prepare_catalogue
from molar_retrieval.embedding import ContentVectors, embed
from molar_retrieval.errors import SettingsError
from molar_retrieval.models import alignment as aligning
from molar_retrieval.models import als as collaborative
from molar_retrieval.models import ease, reranker
from molar_retrieval.models.als import open_log
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import COUNT_MODELS, MolarSettings, PrivacySettings

pytestmark = pytest.mark.slow

MODELS = ("molar", "popularity", "content kNN", "molar (fast)", "no image", "no content tower")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return MolarSettings.load(tmp_path_factory.mktemp("none"), environ={}, flags={"align": SMALL_ALIGNMENT})


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    """A workspace of one's own: evaluation writes into it."""
    root = tmp_path_factory.mktemp("evaluated") / "work"
    copy_workspace(trained.workspace, root)
    return Workspace.open(root)


@pytest.fixture(scope="module")
def suite():
    return Suite(
        name="small",
        description="All that a suite can hold, on a small shop.",
        models=MODELS,
        fast={"align": {**SMALL_ALIGNMENT, "models": ["id_tower", "content_tower", *COUNT_MODELS], "epochs": 1}},
        splits=[{"split": "temporal"}, {"split": "cold items", "models": ["molar", "content kNN"]}],
        cutoffs=(5, 10),
        resamples=200,
        columns=("category",),
        category="category",
    )


@pytest.fixture(scope="module")
def finished(workspace, suite, settings):
    told = []
    evaluator = Evaluator(workspace, suite, settings, command="molar evaluate", tell=told.append)
    result = evaluator.run()
    write_report(result.folder, result.report, result.examples, workspace.catalogue)
    return result, told


def test_the_report_holds_every_model_on_every_test(finished):
    report = read_report(finished[0].folder / "report.json")
    assert report == finished[0].report
    assert [split.name for split in report.splits] == [
        "temporal, first new item",
        "temporal, all new items",
        "cold items, cold",
        "cold items, warm",
        "cold items, overall",
        "cold items, among the cold",
    ]
    for split in report.splits:
        assert [m.name for m in split.models] == (
            list(MODELS) if "temporal" in split.name else ["molar", "content kNN"]
        )
        for model in split.models:
            assert set(model.metrics) >= {"ndcg@5", "recall@10", "map@10"}
            assert {"coverage@10", "diversity@10", "calibration@10"} <= set(model.lists)
            assert {"popularity", "history", "content", "category"} <= set(model.slices)
            for estimate in model.metrics.values():
                assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
    assert "category" in report.data.attributes, "who reads the report sees what was read"
    cold, alone = report.splits[2], report.splits[5]
    assert alone.cases == cold.cases
    assert alone.candidates == cold.facts["removed items"] < cold.candidates
    for model, among in zip(cold.models, alone.models, strict=True):
        assert model.metrics["recall@10"].mean < among.metrics["recall@10"].mean, "fewer are ranked before a target"
    first = report.splits[0]
    rivals = {m.name: [c.baseline for c in m.versus.get("ndcg@10", [])] for m in first.models}
    assert rivals["no image"] == ["molar (fast)"]
    assert rivals["molar"] == [first.against]
    assert rivals[first.against] == []
    assert report.splits[1].models[0].kpi["conversion@10"].mean > 0


def test_the_scores_are_those_of_the_report(finished):
    result, _ = finished
    split = result.report.splits[0]
    for model in split.models:
        scores = read_scores(scores_path(result.folder, split.name, model.name, 0))
        column = scores.metrics.index("ndcg@10")
        assert scores.values[:, column].mean() == pytest.approx(model.metrics["ndcg@10"].mean, abs=1e-6)
        assert len(scores.case) == split.cases


def test_a_second_run_computes_nothing_and_says_the_same(finished, workspace, suite, settings):
    result, told = finished
    assert sum("fitted in" in line for line in told) == len(MODELS) + 2
    again = []
    second = Evaluator(workspace, replace_index(suite), settings, tell=again.append).run()
    assert sum("kept from before" in line for line in again) == len(MODELS) + 2
    for one, other in zip(result.report.splits, second.report.splits, strict=True):
        assert [m.metrics for m in one.models] == [m.metrics for m in other.models]
        assert [m.fit_seconds for m in one.models] == [m.fit_seconds for m in other.models]
    assert gate(second.folder, result.folder) == []


def replace_index(suite):
    return suite.model_copy(update={"index": False})


def test_the_gate_names_what_fell(finished, tmp_path):
    result, _ = finished
    worse = tmp_path / "worse"
    shutil.copytree(result.folder, worse)
    split = result.report.splits[2]
    path = scores_path(worse, split.name, "content kNN", 0)
    table = pq.read_table(path)
    place = table.column_names.index("recall@10")
    assert np.asarray(table["recall@10"]).any()
    nothing = pa.array(np.zeros(len(table), np.float32))
    pq.write_table(table.set_column(place, "recall@10", nothing), path)
    falls = gate(worse, result.folder)
    assert falls
    assert {(f.model, f.metric, f.split) for f in falls} == {("content kNN", "recall@10", split.name)}


def test_the_served_index_loses_nothing_on_a_small_catalogue(finished):
    served, *others = finished[0].report.splits[0].index
    assert served.recall == 1
    assert served.metrics == pytest.approx(served.exact_metrics)
    assert served.milliseconds > 0
    one_bit = next(cost for cost in others if cost.backend.endswith("scan, 1 bit"))
    assert one_bit.recall < 1
    assert one_bit.settings["vectors"] == "aligned"


def test_everything_meets_what_it_has_to_beat():
    def judged(name, kind, score):
        return SimpleNamespace(
            model=SimpleNamespace(name=name, kind=kind), estimates={"m": SimpleNamespace(mean=score)}
        )

    part, other = judged("EASE component alone", "baseline", 0.2), judged("count models alone", "baseline", 0.1)
    ours, fast = judged("molar", "ours", 0.3), judged("molar (fast)", "ours", 0.25)
    rest = [judged("ALS", "baseline", 0.15), judged("no image", "ablation", 0.24)]
    strongest = best_baseline([ours, fast, part, other, *rest], "m")
    assert strongest == "EASE component alone", "the best of parts and baselines"
    expected = {"molar": strongest, "molar (fast)": strongest, "ALS": strongest, "count models alone": "molar"}
    assert rivals([ours, fast, part, other, *rest], strongest) == {**expected, "no image": "molar (fast)"}
    assert rivals([other, *rest], "ALS") == {"count models alone": "ALS", "no image": "ALS"}


def test_examples_show_what_was_listed_and_of_nobody_the_id(finished):
    users = finished[0].examples.users
    assert [user.person for user in users] == [1, 2, 3, 4]
    for user in users:
        assert set(user.lists) == {"molar", finished[0].report.splits[0].against}
        wanted = {item.item_id for item in user.targets}
        for items in user.lists.values():
            assert all(item.hit == (item.item_id in wanted) for item in items)


def test_nothing_in_a_report_rests_on_fewer_people_than_the_settings_say(workspace, suite, settings, tmp_path):
    few = settings.model_copy(update={"privacy": PrivacySettings(min_users=12)})
    one = suite.model_copy(update={"models": ("molar", "popularity"), "splits": suite.splits[:1], "index": False})
    result = Evaluator(workspace, one, few, folder=tmp_path / "run").run()
    assert result.examples.users == []
    assert "no users are shown: each would be one, and [privacy] min_users is 12" in result.report.notes
    slices = [s for m in result.report.splits[0].models for of in m.slices.values() for s in of]
    told = {s.value: s.users for s in slices if s.metrics is not None}
    assert min(told.values()) == told["head"] == 12
    assert {s.value for s in slices if s.users > 20} >= {"up to a year", "photo and description"}
    assert max(told.values()) < 20  # these would leave two or three


@pytest.mark.parametrize("rerank", [False, True])
def test_molar_is_scored_as_the_recommender_answers(workspace, settings, tmp_path, monkeypatch, rerank):
    monkeypatch.setattr(reranker, "FEWEST", 20)
    settings = settings.model_copy(update={"align": settings.align.model_copy(update={"reranker": rerank})})
    log = open_log(workspace)
    split = leave_one_out(log)
    everything = replace(split.tests["last"], length=np.diff(log.offsets)[split.tests["last"].user])
    task = EvaluationTask(split.training, split.validation, np.ones(log.n_items, bool), None, "hide", tmp_path)
    scorer = Molar(workspace, tmp_path / "content", settings).fit(task, 0)
    training = np.diff(split.training.offsets)
    cases = replace(everything, length=training[everything.user])
    allowed = np.ones((len(cases), log.n_items), bool)
    allowed[cases.seen().user, cases.seen().item] = False
    inputs = replace(cases.inputs(), asked_at=None)
    scores = scorer.finish(scorer.scores(inputs), allowed, inputs)
    from molar_indexes.refresh import publish_generation

    publish_generation(scorer.workspace, settings.index).close()
    with Recommender.open(scorer.workspace.root) as recommender:
        assert (recommender.generation.table.reranker is not None) == rerank
        for case, user_id in list(enumerate(cases.user_ids()))[:25]:
            row = scores[case].copy()
            row[cases.seen(slice(case, case + 1)).item] = -np.inf
            recommender.now = datetime.fromtimestamp(int(inputs.timestamp[inputs.offsets[case + 1] - 1]), UTC)
            answer = recommender.query(user_id, k=10, explore=False)
            assert all(("reranker" in item.parts) == rerank for item in answer.items)
            best = np.sort(row)[::-1][:10]
            assert [item.score for item in answer.items] == pytest.approx(best, rel=1e-4, abs=1e-4)
            mine = [row[log.items.row(item.item_id)] for item in answer.items]
            assert mine == pytest.approx([item.score for item in answer.items], rel=1e-4, abs=1e-4)


def test_nothing_after_the_cut_reaches_a_fit(workspace, settings, tmp_path, monkeypatch):
    split = temporal(open_log(workspace))
    seen = []

    def watched(inner):
        def wrapper(log, *args, **kwargs):
            seen.append(int(log.timestamp.max()))
            return inner(log, *args, **kwargs)

        return wrapper

    def watched_training(data, *args, **kwargs):
        seen.append(int(data.log.timestamp.max()))
        return train(data, *args, **kwargs)

    train = aligning.train
    monkeypatch.setattr(collaborative, "fit", watched(collaborative.fit))
    monkeypatch.setattr(aligning, "train", watched_training)
    task = EvaluationTask(split.training, split.validation, np.ones(100, bool), None, "hide", tmp_path)
    Molar(workspace, tmp_path / "content", settings).fit(task, 0)
    assert len(seen) == 2, "ALS and the network were fitted"
    assert max(seen) < split.facts["t1"]


def test_molar_trains_the_same_whatever_the_test_holds(workspace, settings, tmp_path):
    def task(split, folder):
        return EvaluationTask(split.training, split.validation, np.ones(100, bool), None, "hide", folder)

    def make(_):
        return Molar(workspace, tmp_path / "content", settings)

    assert not peeks(make, temporal(open_log(workspace)), task, tmp_path)


def test_variants_are_of_the_catalogue_as_it_was_last_read(workspace, settings, tmp_path):
    shutil.copytree(workspace.catalogue, tmp_path / "shop")
    copy_workspace(workspace.root, tmp_path / "own")
    own = Workspace.for_catalogue(tmp_path / "own", tmp_path / "shop")
    for moment in (1_700_000_000, 1_800_000_000):
        for file in own.catalogue.glob("*.*"):
            os.utime(file, (moment, moment))
        prepare_catalogue(own.catalogue, own)
        embed(own, settings.embed)
        shuffled = content_workspace(own, "shuffled content", tmp_path / "variants", settings.embed)
        assert is_current(own.catalogue, shuffled, events=False)


@pytest.mark.parametrize("variant", ["no image", "no text", "no attributes", "shuffled content", "random content"])
def test_variants_take_away_what_they_say(workspace, settings, variant, tmp_path):
    whole = ContentVectors.open(workspace["content"].require()[0])
    changed = ContentVectors.open(
        content_workspace(workspace, variant, tmp_path, settings.embed)["content"].require()[0]
    )
    assert changed.ids == whole.ids
    norm = np.linalg.norm(changed.vectors, axis=1)
    assert ((abs(norm - 1) < 1e-5) | (norm == 0)).all()
    text, image = whole.block("content_text"), whole.block("content_image")
    if variant == "no image":
        assert changed.block("content_image") is None
        assert np.abs(unit(text) - changed.vectors).max() < 1e-5
    elif variant == "no text":
        assert changed.block("content_text") is None
        assert np.abs(unit(image) - changed.vectors).max() < 1e-5
    elif variant == "no attributes":
        assert np.abs(unit(image) - unit(changed.block("content_image"))).max() < 1e-4
        assert np.abs(unit(text) - unit(changed.block("content_text"))).max() > 0.01
    elif variant == "shuffled content":
        assert (np.sort(changed.vectors, axis=0) == np.sort(whole.vectors, axis=0)).all()
        assert (changed.vectors != whole.vectors).any()
    else:
        assert np.abs(changed.vectors @ whole.vectors.T).max() < 0.5


def unit(block):
    norm = np.linalg.norm(block, axis=1, keepdims=True)
    return block / np.where(norm > 0, norm, 1)


def test_a_log_of_days_gets_the_split_for_days(workspace, suite, settings, monkeypatch):
    log = Evaluator(workspace, suite, settings).log
    assert not knows_only_days(log)
    assert not knows_only_days(replace(log, timestamp=np.zeros_like(log.timestamp)))
    assert knows_only_days(replace(log, timestamp=log.timestamp // 86_400 * 86_400))
    by_order = Suite(
        description="One comparison, by both rules for equal times.",
        models=("popularity", "EASE"),
        primary_comparison={"model": "EASE", "against": "popularity", "split": "leave-one-out, last"},
        splits=[{"split": "leave-one-out"}, {"split": "leave-one-out", "options": {"ties": "item id"}}],
        resamples=200,
        index=False,
    )
    assert Evaluator(workspace, by_order, settings).suite == by_order
    monkeypatch.setattr(evaluate, "knows_only_days", lambda log: True)
    evaluator = Evaluator(workspace, by_order, settings)
    assert "knows only days" in evaluator.notes[0]
    report = evaluator.run().report
    assert [split.name for split in report.splits] == ["last day, last day"]  # once: the rules differ in nothing
    assert report.primary_comparison.comparison.baseline == "popularity"
    assert Evaluator(workspace, suite, settings).notes == []  # nothing in it goes by the order


def test_what_a_model_cannot_do_is_said_and_left_out(workspace, suite, settings, monkeypatch):
    monkeypatch.setattr(ease, "MAX_ITEMS", 10)
    plan = suite.model_copy(update={"models": ("popularity", "EASE"), "splits": suite.splits[:1], "index": False})
    result = Evaluator(workspace, plan, settings).run()
    assert [m.name for m in result.report.splits[0].models] == ["popularity"]
    assert any("EASE was left out" in note for note in result.report.notes)


def test_a_run_goes_by_both_rules_for_equal_times_and_says_what_was_declared_first(workspace, settings):
    suite = Suite(
        name="declared",
        description="One comparison.",
        models=("popularity", "EASE", "item-kNN"),
        primary_comparison={"model": "item-kNN", "against": "popularity", "split": "leave-one-out, last"},
        splits=[{"split": "leave-one-out"}, {"split": "leave-one-out", "options": {"ties": "item id"}}],
        resamples=200,
        index=False,
    )
    result = Evaluator(workspace, suite, settings).run()
    write_report(result.folder, result.report, result.examples, workspace.catalogue)
    report = read_report(result.folder / "report.json")
    assert [split.name for split in report.splits] == ["leave-one-out, last", "leave-one-out, last, ties by item id"]
    primary = report.primary_comparison
    assert (primary.comparison.baseline, primary.comparison.p_holm) == ("popularity", primary.comparison.p)
    tests = [t for split in report.splits for m in split.models for found in m.versus.values() for t in found]
    others = [test for test in tests if test != primary.comparison]
    assert len(tests) == len(others) + 1
    assert sorted(holm(np.array([t.p for t in others]))) == pytest.approx(sorted(t.p_holm for t in others), abs=1e-5)
    said = bottom_line([View(s, s.name, s.title, judge(s, report.made)) for s in report.splits], primary)
    page = (result.folder / "report.html").read_text("utf-8")
    assert f"<h1>{said.headline}</h1>" in page
    assert report.made.code in page


def test_every_suite_beside_the_package_loads():
    assert names() == [
        "alignment-last-day",
        "alignment-loo",
        "cold",
        "fine-tuning",
        "fine-tuning-aligned",
        "paper",
        "prequential",
        "quick",
        "referee",
        "rolling",
        "temporal",
    ]
    for name in names():
        assert load(name).name == name


@pytest.mark.parametrize(
    ("name", "changes", "hint"),
    [("papr", {}, "'paper'"), ("quick", {"seedz": 3}, "'seeds'"), ("quick", {"seeds": 0}, "correct the value")],
)
def test_a_wrong_suite_is_refused_with_a_remedy(name, changes, hint):
    with pytest.raises(SettingsError) as caught:
        load(name, changes)
    assert hint in caught.value.hint


def test_unknown_models_and_columns_are_refused(workspace, suite, settings):
    for change, near in (
        ({"models": ("EASY",)}, "EASE"),
        ({"columns": ("categori",), "models": ("popularity",)}, "category"),
    ):
        plan = suite.model_copy(update={**change, "splits": suite.splits[:1]})
        with pytest.raises(SettingsError) as caught:
            Evaluator(workspace, plan, settings).run()
        assert near in caught.value.hint
