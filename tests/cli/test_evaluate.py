"""`molar evaluate` as people run it."""

import json
import shutil

import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT

SUITE = """
description = "small"
models = ["molar", "popularity"]
resamples = 200
[[splits]]
split = "temporal"
"""


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    copy_workspace(trained.workspace, folder / ".molar")
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**SMALL_ALIGNMENT, "epochs": 1}.items()]
    (folder / "molar.toml").write_text("[align]\n" + "\n".join(lines))
    (folder / "small.toml").write_text(SUITE)
    return folder


def test_a_run_writes_a_report_and_passes_its_own_gate(molar, place):
    first = molar("evaluate", "--suite", "small.toml", "--out", "first", cwd=place)
    assert first.returncode == 0, first.stderr
    assert "temporal: first new item" in first.stdout
    assert "popularity" in first.stdout
    assert "fitted in" in first.stderr
    for name in ("report.html", "report.json", "examples.json"):
        assert (place / "first" / name).stat().st_size > 500
    again = molar("evaluate", "--suite", "small.toml", "--out", "second", "--gate", "first", "--json", cwd=place)
    assert again.returncode == 0, again.stderr
    assert "kept from before" in again.stderr
    report = json.loads(again.stdout)
    assert [split["name"] for split in report["splits"]] == ["temporal, first new item", "temporal, all new items"]
    assert report["made"]["command"].startswith("molar evaluate --suite small.toml")


def test_a_fall_fails_the_gate_with_code_5(molar, place):
    """The former run knew better: its popularity is replaced by molar's, or the other way round."""
    if not (place / "first").exists():
        assert molar("evaluate", "--suite", "small.toml", "--out", "first", cwd=place).returncode == 0
    before = place / "before"
    shutil.copytree(place / "first", before, dirs_exist_ok=True)
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in before.glob("scores/*/popularity/seed-0.parquet"):
        table = pq.read_table(path)
        column = table.column_names.index("hit_rate@10")
        pq.write_table(table.set_column(column, "hit_rate@10", pa.array(np.ones(len(table), np.float32))), path)
    done = molar("evaluate", "--suite", "small.toml", "--out", "now", "--gate", "before", cwd=place)
    assert done.returncode == 5, done.stderr
    assert "hit_rate@10" in done.stderr
    assert "popularity" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--suite", "papr"], 2, "'paper'"),
        (["--suite", "small.toml", "--model", "EASY"], 2, "EASE"),
        (["--suite", "small.toml", "--slice", "colour of luck"], 2, "neither items nor users"),
        (["--suite", "small.toml", "--ties", "by chance"], 2, "ties"),
        (["--suite", "small.toml", "--gate", "a", "--out", "a"], 2, "another folder"),
        (["--suite", "small.toml", "--gate", "nothing-here"], 3, "scores"),
        (["--impressions", "missing.parquet"], 1, "missing.parquet"),
    ],
)
def test_mistakes_are_two_lines_and_a_code(molar, place, arguments, code, words):
    done = molar("evaluate", *arguments, "--quiet", cwd=place)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_workspace_it_says_what_to_do(molar, tmp_path):
    done = molar("evaluate", cwd=tmp_path)
    assert done.returncode == 3
    assert "molar embed CATALOG" in done.stderr
