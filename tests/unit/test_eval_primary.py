"""The one comparison that a suite declares beforehand: tested by itself, everything else corrected together."""

from types import SimpleNamespace

import made_up_report as made_up
import numpy as np
import pytest

from molar_eval.report.schema import PrimaryResult
from molar_eval.report.verdict import shown
from molar_eval.results import corrected, pairs
from molar_eval.statistics import holm
from molar_eval.suite import PrimaryComparison, Suite, load
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.settings import validated

DECLARED = PrimaryComparison(model="molar", against="EASE", split="one")


def split_of(name, ps):
    """A split in which each model was compared to another, by NDCG."""
    models = [made_up.model("EASE", "baseline", 0.15), made_up.model("SASRec", "baseline", 0.18)]
    for model, tests in ps.items():
        versus = {"ndcg@10": [made_up.comparison(against, 0.04, p=2 * p) for against, p in tests.items()]}
        models.append(made_up.model(model, "ours", 0.19, versus=versus))
    return made_up.split(name, models=models, against="SASRec")


SPLITS = [
    split_of("one", {"molar": {"EASE": 0.03, "SASRec": 0.01}, "molar (fast)": {"SASRec": 0.04}}),
    split_of("two", {"molar": {"EASE": 0.02}}),
]


def of(splits):
    return {
        (split.name, model.name, one.baseline): one.p_holm
        for split in splits
        for model in split.models
        for one in model.versus.get("ndcg@10", [])
    }


def test_the_declared_one_keeps_its_p_and_all_others_are_corrected_over_the_whole_run():
    splits, primary = corrected(SPLITS, DECLARED)
    others = dict(zip(["SASRec", "fast", "two"], holm(np.array([0.01, 0.04, 0.02])), strict=True))
    assert of(splits) == {
        ("one", "molar", "EASE"): 0.03,
        ("one", "molar", "SASRec"): pytest.approx(others["SASRec"]),
        ("one", "molar (fast)", "SASRec"): pytest.approx(others["fast"]),
        ("two", "molar", "EASE"): pytest.approx(others["two"]),
    }
    assert primary.comparison == splits[0].models[2].versus["ndcg@10"][0]
    assert primary.comparison.p == primary.comparison.p_holm == 0.03


def test_without_a_declaration_nothing_changes():
    assert corrected(SPLITS, None) == (SPLITS, None)


def test_a_declared_one_that_was_not_made_is_none_and_takes_nothing_from_the_others():
    splits, primary = corrected(SPLITS, DECLARED.model_copy(update={"against": "somebody"}))
    assert primary.comparison is None
    assert of(splits)["one", "molar", "SASRec"] == pytest.approx(4 * 0.01)


def test_it_is_tested_where_it_is_declared_whoever_is_the_strongest():
    models = [
        SimpleNamespace(model=SimpleNamespace(name=name, kind="ours" if name == "molar" else "baseline"))
        for name in ("molar", "EASE", "SASRec")
    ]
    usual = [("molar", "SASRec"), ("EASE", "SASRec")]
    assert pairs(models, "SASRec", "one", None) == usual
    assert pairs(models, "SASRec", "two", DECLARED) == usual
    assert pairs(models, "SASRec", "one", DECLARED) == [*usual, ("molar", "EASE")]
    assert pairs(models[:1] + models[2:], "SASRec", "one", DECLARED) == usual[:1]
    assert pairs(models, "EASE", "one", DECLARED) == [("molar", "EASE"), ("SASRec", "EASE")], "once"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"against": "SASRek"}, "'SASRek' among the models"), ({"metric": "mrr@10"}, "ndcg@10 or recall@10")],
)
def test_a_suite_can_only_declare_what_it_tests(changes, said):
    values = {**DECLARED.model_dump(), **changes}
    suite = {"description": "", "splits": [{"split": "temporal"}], "models": ["molar", "EASE"]}
    with pytest.raises(SettingsError, match=said):
        validated(Suite, {**suite, "primary_comparison": values}, "my.toml")


def test_the_referee_declares_one_comparison_and_goes_by_both_rules_for_equal_times():
    suite = load("referee")
    assert suite.primary_comparison.split == "leave-one-out, last"
    assert [plan.options for plan in suite.splits] == [{}, {"ties": "item id"}]
    assert suite.seeds == 3


def test_it_is_shown_under_the_names_that_the_report_shows():
    part = made_up.model("count models alone", "baseline", 0.1, facts={"reranking": {"used": True}})
    report = made_up.report([made_up.split(models=[part], against="count models alone")])
    primary = PrimaryResult(
        split="temporal", model="molar", against="count models alone", metric="ndcg@10", comparison=None
    )
    found = shown(report.model_copy(update={"primary_comparison": primary})).primary_comparison
    assert (found.model, found.against) == ("molar", "count models + second stage")
