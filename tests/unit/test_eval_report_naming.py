"""A part of the score that was tested with a second stage is shown as that; reports keep the names of suites."""

from made_up_report import report as made_up
from write_results import results

from molar_eval.report.schema import ExampleUser, ReportExamples
from molar_eval.report.verdict import shown, shown_examples, terminal_tables

PART = "content kNN component alone"


def report(used):
    made = made_up()
    split = made.splits[0]
    old = split.against
    models = [
        m.model_copy(
            update={
                "name": PART if m.name == old else m.name,
                "facts": {"reranking": {"cases": 200, "used": used}} if m.name == old else m.facts,
                "versus": {
                    metric: [one.model_copy(update={"baseline": PART}) for one in tests]
                    for metric, tests in m.versus.items()
                },
            }
        )
        for m in split.models
    ]
    first = split.model_copy(update={"models": models, "against": PART})
    return made.model_copy(update={"splits": [first, *made.splits[1:]]})


def test_a_part_with_a_second_stage_is_named_for_both():
    found = shown(report(used=True))
    assert "content kNN component + second stage" in {m.name for m in found.splits[0].models}
    assert found.splits[0].against == "content kNN component + second stage"
    assert PART not in results({"r.json": report(used=True)})
    assert not any(PART in line for block in terminal_tables(report(used=True)) for line in block.lines)


def test_a_part_whose_second_stage_was_not_borne_out_stands_alone():
    assert shown(report(used=False)) == report(used=False)
    assert PART in results({"r.json": report(used=False)})


def test_examples_are_named_as_the_report_is():
    user = ExampleUser(split="s", person=1, history=[], targets=[], lists={PART: [], "molar": []})
    examples = ReportExamples(catalogue="c", users=[user])
    assert list(shown_examples(examples, report(used=True)).users[0].lists) == [
        "content kNN component + second stage",
        "molar",
    ]
    assert shown_examples(examples, report(used=False)) == examples
