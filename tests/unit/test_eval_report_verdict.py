"""The plain words: who won, whether it is real, for whom it is worse."""

import made_up_report as made_up
import pytest

from molar_eval.report.verdict import judge

MADE = made_up.report(splits=[]).made


def pair(ours, theirs, p=0.0004, **changes):
    """A split with molar, EASE and popularity; molar is tested against EASE."""
    tests = [] if p is None else [made_up.comparison("EASE", ours - theirs, p=p)]
    models = [
        made_up.model("popularity", "baseline", 0.01),
        made_up.model("EASE", "baseline", theirs),
        made_up.model("molar", "ours", ours, versus={"ndcg@10": tests}),
    ]
    return made_up.split(models=models, **{"against": "EASE", **changes})


def said(split):
    verdict = judge(split, MADE)
    return verdict, " ".join([verdict.headline, *verdict.sentences])


def test_a_win_is_told_with_hits_interval_and_probability():
    verdict, text = said(pair(0.19, 0.155))
    assert verdict.outcome == "ahead"
    assert verdict.headline == "molar beats the best other method, EASE, by 23\N{NO-BREAK SPACE}%"
    assert "finds a right next item among its first 10 suggestions for 33 of 100 users" in text
    assert "the best other method, EASE, for 27." in text
    assert "ahead by 0.0350" in text
    assert "95 % interval +0.0310 to +0.0390" in text
    assert "the difference is real (p < 0.001)" in text


def test_a_loss_is_told_as_one():
    verdict, text = said(pair(0.10, 0.19, p=0.012))
    assert verdict.outcome == "behind"
    assert "molar falls short of EASE by 47" in verdict.headline
    assert "behind by 0.0900" in text
    assert "the difference is real (p = 0.012)" in text


@pytest.mark.parametrize("difference", [0.002, -0.002])
def test_what_may_be_chance_is_neither_a_win_nor_a_loss(difference):
    verdict, text = said(pair(0.15 + difference, 0.15, p=0.21))
    assert verdict.outcome == "open"
    assert verdict.headline == "Cannot tell whether molar or EASE is better"
    assert "they cannot be told apart" in text
    assert "may be chance (p = 0.21)" in text
    assert "real" not in text


def test_five_per_cent_is_the_border():
    assert judge(pair(0.19, 0.15, p=0.0499), MADE).outcome == "ahead"
    assert judge(pair(0.19, 0.15, p=0.05), MADE).outcome == "open"


def test_without_a_test_against_the_best_baseline_nothing_is_claimed():
    models = [
        made_up.model("EASE", "baseline", 0.16),
        made_up.model("ALS", "baseline", 0.12),
        made_up.model("molar", "ours", 0.19, versus={"ndcg@10": [made_up.comparison("ALS", 0.07)]}),
    ]
    verdict, text = said(made_up.split(models=models, against="ALS"))
    assert verdict.outcome == "untested"
    assert "the difference was not tested" in verdict.headline
    assert "Compared with ALS it is ahead by 0.0700" in text


def test_a_model_alone_is_compared_with_nothing():
    verdict, _ = said(made_up.split(models=[made_up.model()]))
    assert verdict.outcome == "alone"
    assert verdict.headline == "molar was tested with nothing to compare it to"
    verdict, _ = said(made_up.split(models=[made_up.model("EASE", "baseline")]))
    assert verdict.headline == "EASE is the best of the methods that were tested"
    assert judge(made_up.split(models=[]), MADE).headline == "No model has a result"
    assert judge(made_up.split(models=[made_up.model(metrics={})]), MADE).headline == "No model has a result"


def test_rare_hits_are_counted_out_of_more():
    _, text = said(pair(0.02, 0.018))
    assert "for 35 of 1,000 users" in text
    assert "EASE, for 32." in text  # 0.018 * 1.75 = 0.0315


def test_close_hits_that_truly_differ_are_told_apart():
    _, text = said(pair(0.1914, 0.1904))
    assert "for 335 of 1,000 users" in text
    assert "EASE, for 333." in text


def test_several_cases_per_user_are_called_cases():
    _, text = said(pair(0.19, 0.15, cases=9000))
    assert "of 100 cases" in text


def test_recall_speaks_of_items_where_there_is_no_hit_rate():
    def with_recall(model):
        kept = {name: value for name, value in model.metrics.items() if name.startswith(("ndcg", "recall"))}
        return model.model_copy(update={"metrics": kept})

    split = pair(0.19, 0.155)
    _, text = said(split.model_copy(update={"models": [with_recall(model) for model in split.models]}))
    assert "Of 100 items that were chosen next, molar has 33 among its first 10 suggestions" in text


def test_for_whom_it_is_worse_is_what_a_plain_search_finds():
    split = made_up.split()
    verdict = judge(split, MADE)
    expected = set()
    for dimension, parts in next(m for m in split.models if m.name == "molar").slices.items():
        for number, part in enumerate(parts):
            rivals = [m.slices[dimension][number] for m in split.models if m.kind == "baseline"]
            if part.metrics and any(r.metrics["ndcg@10"].mean > part.metrics["ndcg@10"].mean for r in rivals):
                expected.add((dimension, part.value))
    assert expected == {("popularity", "cold"), ("shows", "neither")}
    assert {(weak.dimension, weak.value) for weak in verdict.weak} == expected
    assert all(weak.baseline == "content kNN" for weak in verdict.weak)
    assert verdict.parts == sum(len(parts) for parts in made_up.SLICES.values()) - 1  # one has too few users


def test_a_clear_weakness_comes_first_and_overlap_may_be_chance():
    verdict = judge(pair(0.05, 0.08), MADE)
    assert [weak.clear for weak in verdict.weak] == sorted((weak.clear for weak in verdict.weak), reverse=True)
    assert all(weak.clear == (weak.ours.high < weak.theirs.low) for weak in verdict.weak)
    assert {weak.clear for weak in verdict.weak} == {True, False}
    assert [*verdict.clear, *verdict.unclear] == verdict.weak
    assert all(weak.clear for weak in verdict.clear)
    assert not any(weak.clear for weak in verdict.unclear)


def test_costs_name_time_and_machine():
    verdict = judge(pair(0.19, 0.15), MADE.model_copy(update={"device": "NVIDIA H100"}))
    assert verdict.costs == [
        "57 min to train molar, on 2 CPU cores and NVIDIA H100",
        "0.23 ms to rank all items for one case",
        "1.8 ms for a query of the index (edge), which finds 98.7\N{NO-BREAK SPACE}% of what exact search finds",
    ]
