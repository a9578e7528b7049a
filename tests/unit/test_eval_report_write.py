"""The files of a report: round trip, what is refused, what is left behind."""

import json

import made_up_report as made_up
import pytest
from pydantic import ValidationError

from molar_eval.report.page import EXAMPLES, PAGE, REPORT, read_report, write_report
from molar_eval.report.schema import Estimate, ReportExamples
from molar_retrieval.errors import DataError, MissingArtefactError


def test_a_report_is_read_as_it_was_written(tmp_path):
    report = made_up.report()
    write_report(tmp_path / "run", report, made_up.examples(), tmp_path)
    assert read_report(tmp_path / "run" / REPORT) == report
    text = (tmp_path / "run" / EXAMPLES).read_text("utf-8")
    assert ReportExamples.model_validate_json(text) == made_up.examples()


def test_nothing_else_is_left_in_the_folder_and_examples_go_with_their_report(tmp_path):
    write_report(tmp_path, made_up.report(), made_up.examples(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {REPORT, EXAMPLES, PAGE}
    write_report(tmp_path, made_up.report(), None, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {REPORT, PAGE}


def test_names_in_other_scripts_are_kept(tmp_path):
    report = made_up.report(title="Оценка 評価 🎬")
    write_report(tmp_path, report, None, tmp_path)
    assert read_report(tmp_path / REPORT).title == "Оценка 評価 🎬"
    assert "Оценка 評価 🎬" in (tmp_path / PAGE).read_text("utf-8")


def test_a_number_that_json_cannot_hold_is_refused_before_anything_is_written():
    with pytest.raises(ValidationError, match="finite"):
        Estimate(mean=float("nan"), low=0.0, high=1.0)


def test_a_missing_report_says_what_to_run(tmp_path):
    with pytest.raises(MissingArtefactError, match="no report"):
        read_report(tmp_path / REPORT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "has no format"),
        ("{}", "has no format"),
        ('{"format": 2}', "has the format 2, this molar reads reports of format 1"),
        ('{"format": 1, "title": "x"}', "is no report: suite"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, content, message):
    path = tmp_path / REPORT
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        read_report(path)


def test_an_unknown_field_is_refused_by_name(tmp_path):
    content = json.loads(made_up.report().model_dump_json())
    content["splits"][0]["models"][0]["colour"] = "red"
    (tmp_path / REPORT).write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError, match=r"splits\.0\.models\.0\.colour"):
        read_report(tmp_path / REPORT)
