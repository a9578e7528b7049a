"""The one thing to take from a report: won, lost, cannot tell, nothing to compare with; and which test it is about."""

import made_up_report as made_up
import pytest

from molar_eval.report.page import render
from molar_eval.report.schema import PrimaryResult
from molar_eval.report.verdict import View, bottom_line, judge, plain_title, terminal_tables
from molar_retrieval.reports.html import Pictures


def pair(ours, theirs, p, **changes):
    """A test in which molar is compared with EASE."""
    test = [made_up.comparison("EASE", ours - theirs, p=p)]
    models = [
        made_up.model("EASE", "baseline", theirs),
        made_up.model("molar", "ours", ours, versus={"ndcg@10": test}),
    ]
    return made_up.split(models=models, against="EASE", **changes)


def line(*splits, primary=None):
    made = made_up.report([]).made
    views = [View(s, f"split-{n}", plain_title(s), judge(s, made)) for n, s in enumerate(splits, 1)]
    return bottom_line(views, primary)


WON, LOST, TIE = pair(0.19, 0.15, 0.001), pair(0.15, 0.19, 0.001), pair(0.151, 0.15, 0.4)
ALONE = made_up.split(models=[made_up.model()])


@pytest.mark.parametrize(
    ("split", "headline", "said"),
    [
        (WON, "molar beats the best other method, EASE, by 27\N{NO-BREAK SPACE}%", "95 % interval +0.0360 to +0.0440"),
        (LOST, "molar falls short of EASE by 21\N{NO-BREAK SPACE}%", "the difference is real (p = 0.001)"),
        (TIE, "Cannot tell whether molar or EASE is better", "or 6,040 users are too few to tell"),
        (ALONE, "molar was tested with nothing to compare it to", "molar finds a right next item"),
    ],
    ids=["won", "lost", "tie", "one model"],
)
def test_it_says_what_came_out(split, headline, said, tmp_path):
    found = line(split)
    assert found.headline == headline
    assert said in " ".join(found.sentences)
    assert "other test" not in " ".join(found.sentences)
    text = render(made_up.report([split], tables=[]), None, Pictures(tmp_path))
    assert text.count("<h1>") == 1
    assert f"<h1>{headline}</h1>" in text
    assert text.count(headline) == 2, "in the title of the page and once in the page"


def test_only_what_cannot_be_told_is_called_so():
    for split in (WON, LOST, ALONE):
        assert "too few" not in " ".join(line(split).sentences)


def test_the_first_test_whose_numbers_do_not_flatter_decides():
    flattering = pair(0.19, 0.15, 0.001, warning="it flatters")
    assert line(flattering, TIE).view.result is TIE
    assert line(flattering, LOST, TIE).view.result is LOST
    assert line(flattering).view.result is flattering
    assert line().view is None
    assert line().headline == "Nothing was tested"


def test_the_other_tests_are_told_in_one_sentence():
    assert line(WON, LOST).sentences[-1] == "In the other test our best model is behind."
    assert line(TIE, WON, WON).sentences[-1] == "In all 2 other tests our best model is ahead."
    many = line(WON, WON, LOST, TIE, TIE, ALONE).sentences[-1]
    told = "ahead in 1, behind in 1, not to be told from the best other method in 2, compared to nothing in 1"
    assert many == f"In 5 other tests our best model is {told}."


def test_every_test_stands_once_in_the_list_with_its_difference(tmp_path):
    text = render(made_up.report([WON, LOST.model_copy(update={"name": "b", "title": "b"})]), None, Pictures(tmp_path))
    listed = text[text.index('<ul class="tests">') : text.index("Lines and ±")]
    assert listed.count("<li>") == 2
    assert "NDCG@10 −0.0400 (95 % interval −0.0440 to −0.0360, p = 0.001)" in listed


def test_a_report_without_a_test_is_a_page(tmp_path):
    assert "Nothing was tested" in render(made_up.report([]), None, Pictures(tmp_path))


def declared(split, model="molar", against="EASE"):
    tests = {one.name: one.versus.get("ndcg@10", []) for one in split.models}
    found = next((test for test in tests.get(model, []) if test.baseline == against), None)
    return PrimaryResult(split=split.name, model=model, against=against, metric="ndcg@10", comparison=found)


@pytest.mark.parametrize(
    ("split", "headline"),
    [
        (WON, "molar beats EASE by 27\N{NO-BREAK SPACE}%"),
        (LOST, "molar falls short of EASE by 21\N{NO-BREAK SPACE}%"),
        (TIE, "Cannot tell whether molar or EASE is better"),
    ],
)
def test_what_was_declared_beforehand_is_said_first(split, headline, tmp_path):
    other = pair(0.3, 0.1, 0.001, name="other")
    found = line(other, split, primary=declared(split))
    assert (found.headline, found.view.result) == (headline, split)
    assert "declared this one comparison before it ran" in " ".join(found.sentences)
    report = made_up.report([other, split], tables=[], primary_comparison=declared(split))
    assert f"<h1>{headline}</h1>" in render(report, None, Pictures(tmp_path))


def test_a_declared_comparison_that_was_not_made_leaves_the_bottom_line_as_it_is():
    assert line(WON, primary=declared(WON, against="nobody")) == line(WON)


def test_both_rules_for_equal_times_are_told_apart():
    titles = [plain_title(made_up.split(title="leave-one-out: last" + more)) for more in ("", ", ties by item id")]
    assert titles == ["Everybody's last item", "Everybody's last item, equal times by item id"]


def test_the_terminal_says_it_under_the_table_of_its_test():
    report = made_up.report([pair(0.3, 0.1, 0.001, name="other"), WON], primary_comparison=declared(WON))
    said = [" ".join(table.lines) for table in terminal_tables(report)]
    assert ["declared this one comparison" in text for text in said] == [False, True]
