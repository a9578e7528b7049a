"""Tables of the papers, of the page, of the terminal and of docs/results.md."""

import importlib.util
import io
from pathlib import Path

import made_up_report as made_up
import pytest
from rich.console import Console as RichConsole
from write_results import STALE, UNKNOWN, results, table

from molar_cli.console import Console
from molar_eval.modules import RESULTS, of_modules
from molar_eval.report import plots, tables
from molar_eval.report.page import write_report
from molar_eval.report.schema import PrimaryResult, Table
from molar_eval.report.tables import paper_tables
from molar_eval.report.verdict import WIDTH, terminal_tables
from molar_retrieval.reports import wording as words

ROOT = Path(__file__).resolve().parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_the_papers():
    main, modality, component, aligner = paper_tables(made_up.split())
    assert main.columns == ["model", "N@10", "N@20", "R@10", "R@20"]
    assert [row[0] for row in main.rows] == [name for name, kind, *_ in made_up.MODELS if kind == "baseline"] + [
        "molar"
    ]
    assert main.rows[-1] == pytest.approx(["molar", 0.193, 0.193 * 1.22, 0.193 * 1.75, 0.193 * 1.75 * 1.22])
    assert [row[0] for row in modality.rows][:2] == ["image only", "text only"]
    assert modality.rows[0][1] == 0.170  # no text
    assert modality.rows[-1][:2] == ["image + text", 0.181]  # molar (fast): trained as the ablations are
    assert [row[0] for row in component.rows][-1] == "full"
    assert [row[0] for row in aligner.rows] == ["w/o alignment loss", "with alignment loss"]


def test_what_is_missing_is_left_out():
    models = [model for model in made_up.split().models if model.name in ("EASE", "molar", "no alignment loss")]
    main, aligner = paper_tables(made_up.split(models=models))
    assert [row[0] for row in main.rows] == ["EASE", "molar"]
    assert aligner.rows[-1][1] == 0.193  # without the fast one, molar is the full model
    assert paper_tables(made_up.split(models=[])) == []
    (only,) = paper_tables(made_up.split(models=[made_up.model(metrics={"ndcg@10": made_up.estimate(0.1)})]))
    assert only.columns == ["model", "N@10"]


def test_fine_tuning_is_told_inside_the_catalogue():
    found = {"before": [0.01, 0.02], "after": [0.05, 0.06]}
    names = {"content kNN": 0.1, "content kNN (fine-tuned)": 0.13}
    models = [made_up.model(name, "baseline", ndcg, facts={"catalogue": found}) for name, ndcg in names.items()]
    held_out = {"name": "cold items, cold"}
    _, inside = paper_tables(made_up.split(models=models, **held_out))
    assert inside.rows == [["the encoder as it is", 0.01, 0.02], ["fine-tuned", 0.05, 0.06]]
    assert len(paper_tables(made_up.split(models=models[:1]))) == 1
    untold = [made_up.model(name, "baseline", ndcg) for name, ndcg in names.items()]
    assert len(paper_tables(made_up.split(models=untold, **held_out))) == 1
    assert len(paper_tables(made_up.split(models=models, name="cold items, warm"))) == 1


def test_variants_of_one_model_can_be_told_apart_when_they_are_cut():
    names = [f"content kNN (fine-tuned, no {task})" for task in ("attributes", "behaviour", "image-text")]
    assert words.short("molar (fine-tuned)") == "molar (fine-tuned)"
    assert words.short(names[0]) == "content … no attributes)"
    assert len({words.short(name) for name in names}) == 3
    assert all(len(words.short(name, most)) == most for name in names for most in (10, 24, 30))


def test_best_and_second_are_told_by_what_is_shown():
    shown = Table(
        title="t",
        columns=["model", "a", "b", "c"],
        rows=[["x", 0.10001, 0.1, 0.3], ["y", 0.10002, None, 0.3], ["z", 0.2, 0.3, 0.3]],
    )
    places = [[cell.place for cell in row[1:]] for row in tables.of_table(shown).rows]
    assert places == [[2, 2, 0], [2, 0, 0], [1, 1, 0]]  # x and y look equal; nobody wins a column of equals
    assert tables.of_table(shown).rows[1][2].text == words.NONE


def test_every_metric_of_every_model_is_in_the_full_table():
    split = made_up.split()
    grid = tables.metrics(split)
    assert len(grid.rows) == len(split.models)
    assert len(grid.columns) == 1 + len(split.models[0].metrics)
    assert grid.rows[0][0].text == "molar"
    assert grid.rows[0][grid.columns.index("NDCG@10")] == tables.Cell("0.1930", "±0.0060, sd 0.0011", 1)


def test_an_ablation_without_a_test_says_so():
    split = made_up.split()
    models = [m.model_copy(update={"versus": {}}) if m.name == "no image" else m for m in split.models]
    shown = plots.ablations(split.model_copy(update={"models": models}))
    line = next(line for line in shown.lines if line.label == "no image")
    assert (line.value, line.aside, line.picture) == ("−0.0020", "not tested", None)


def test_the_index_table_shows_what_is_lost():
    (row,) = tables.index(made_up.split()).rows
    assert [cell.text for cell in row[:2]] == ["edge", "98.70\N{NO-BREAK SPACE}%"]
    assert row[2] == tables.Cell("0.1912", "−0.0018 to exact")


def test_the_terminal_table_fits_the_width():
    name = "a model with a name that is longer than any table likes"
    models = [made_up.model(name, "ours", 0.2), *made_up.split().models]
    for block in terminal_tables(made_up.report([made_up.split(models=models, title="long " * 40, against=name)])):
        console = Console()
        console._out = RichConsole(width=300, file=io.StringIO(), highlight=False)
        console.table(block.columns, block.rows, title=block.title)
        printed = console._out.file.getvalue().splitlines() + block.lines
        assert max(len(line.rstrip()) for line in printed) <= WIDTH
        assert len(block.rows) == len(models)


def test_the_terminal_marks_what_differs_and_says_the_verdict():
    (block, second) = terminal_tables(made_up.report())
    rows = {row[0]: row for row in block.rows}
    assert rows["molar"] == ["molar", "0.0868 ±0.0060", "0.1520", "+0.0050*", "3,410.0"]
    assert rows["no image"][3] == "−0.0014 "
    assert rows["SASRec"][3].strip() == words.NONE
    assert "the difference is real" in " ".join(block.lines)
    assert "Worse than another method for: shows neither (content kNN" in " ".join(block.lines)
    assert not any("Caution" in line for line in block.lines)
    assert "Caution: leave-one-out lets training see" in " ".join(second.lines)


def test_markdown_cells_survive_any_name():
    grid = tables.Grid("t", ["model", "a|b"], [[tables.Cell("<script> | *x*\nnext"), tables.Cell("0.1", "±0.0", 1)]])
    header, _, row = table(grid).splitlines()
    assert header == r"| model | a\|b |"
    assert row == r"| \<script\> \| \*x\* next | **0.1** ±0.0 |"


def test_results_are_written_from_the_reports(tmp_path):
    first = made_up.report()
    second = made_up.report(suite="temporal", data=first.data.model_copy(update={"name": "hm"}))
    write_report(tmp_path / "ml-1m-paper", first, made_up.examples(), tmp_path)
    (tmp_path / "hm-temporal.json").write_text(second.model_dump_json(), "utf-8")
    text = script("write_results").render(tmp_path)
    places = {"../eval/results/hm-temporal.json": second, "../eval/results/ml-1m-paper/report.json": first}
    assert text == results(places, of_modules(*RESULTS))
    assert text.count(UNKNOWN) == 2
    assert text.index("## hm") < text.index("## ml-1m")
    for needed in (
        "### paper: [ml-1m-paper](../eval/results/ml-1m-paper/report.json)",
        "`molar evaluate path/to/ml-1m --suite paper`",
        "2026-11-25, 2 cores, cpu, 4 h 12 min of computing",
        "| **0.1930** ±0.0060, sd 0.0011 |",
        "Scores flatter: leave-one-out",
    ):
        assert needed in text, needed
    assert "| no image |" not in text  # an ablation
    assert "Toy Story" not in text


def test_reports_of_other_code_are_marked():
    old, new = (made_up.report(), made_up.report())
    new = new.model_copy(update={"made": new.made.model_copy(update={"code": "present", "commit": "21e5ecf+changes"})})
    text = results({"new.json": new}, "present")
    assert STALE not in text
    assert UNKNOWN not in text
    assert "commit `21e5ecf+changes`" in text
    assert STALE in results({"new.json": new}, "later")
    assert UNKNOWN in results({"old.json": old}, "present")


def test_what_a_suite_declared_is_said_with_everybody_who_was_there():
    split = made_up.split()
    (ours,) = (model for model in split.models if model.name == "molar")
    (test,) = ours.versus["ndcg@10"]
    told = {"split": split.name, "model": "molar", "against": test.baseline, "metric": "ndcg@10"}
    primary = PrimaryResult(**told, comparison=test)
    text = results({"a.json": made_up.report([split], primary_comparison=primary)})
    assert f"* declared beforehand: **molar beats {test.baseline} by " in text
    everybody = next(line for line in text.splitlines() if ", all: " in line)
    assert all(f" {model.name} " in everybody for model in split.models)  # ablations too
    not_made = made_up.report([split], primary_comparison=PrimaryResult(**told, comparison=None))
    assert results({"a.json": not_made}) == results({"a.json": made_up.report([split])})


def unmarked(text):
    """The document without the marks, which every change of code may move."""
    return text.replace(f" {STALE}", "").replace(f" {UNKNOWN}", "")


def test_the_results_document_is_that_of_the_reports():
    written = script("write_results")
    if written.TARGET.exists():
        assert unmarked(written.TARGET.read_text("utf-8")) == unmarked(written.render()), "run `make docs`"
        assert len(written.TARGET.read_text("utf-8").splitlines()) <= 250, "a person reads it whole"
    else:
        assert written.reports(written.RESULTS) == [], "run `make docs`"


def test_the_schema_document_is_that_of_the_models():
    written = script("write_report_schema")
    assert written.TARGET.read_text("utf-8") == written.render(), "run `make docs`"
    assert "|  |" not in written.render(), "a field has no description"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.000234, "0.23 ms"), (0.0042, "4.2 ms"), (0.6, "600 ms"), (4, "4.0 s"), (59.7, "1 min"), (185, "3 min 5 s"),
     (3410, "57 min"), (3599, "1 h"), (15120, "4 h 12 min")],
)  # fmt: skip
def test_times_are_told_in_the_units_that_matter(seconds, text):
    assert words.duration(seconds) == text


def test_nested_settings_are_told_one_by_one():
    assert words.flat({"a": {"b": [1, None], "c": {}}, "d": "x"}) == [("a.b", "[1, null]"), ("a.c", "{}"), ("d", "x")]
