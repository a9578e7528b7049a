"""`molar query` as a program: its contract with people and with other programs."""

import json
import subprocess
import sys

import pytest


def test_json_is_one_document_on_standard_output_with_the_fields_of_the_contract(molar, trained):
    done = molar("query", "--user", trained.user, "-k", 4, "--json", "--workspace", trained.workspace)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"user_id", "k", "generation", "items", "shortfall", "timings_ms"} <= answer.keys()
    assert answer["user_id"] == trained.user
    assert [i["rank"] for i in answer["items"]] == [1, 2, 3, 4]
    for item in answer["items"]:
        assert {"rank", "item_id", "title", "score", "parts", "reasons"} <= item.keys()
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-4)


def test_the_table_shows_titles_scores_and_parts(molar, trained):
    done = molar("query", "--user", trained.user, "-k", 3, "--workspace", trained.workspace)
    assert done.returncode == 0
    assert "title" in done.stdout
    assert "mostly" in done.stdout
    assert any(
        f"{name} " in done.stdout for name in ("ease", "popularity", "content_tower", "content_knn", "sequential")
    )
    assert done.stderr == ""


def test_the_workspace_is_found_upward(molar, trained):
    deep = trained.workspace.parent / "some" / "where"
    deep.mkdir(parents=True, exist_ok=True)
    assert molar("query", "--user", trained.user, cwd=deep).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--user", "u99999", "--fallback", "error"], 1, "check the id"),
        (["--user", "u0001", "-k", "1001"], 1, "ask for at most 1,000"),
        (["--session", "nothing like it", "--fallback", "error"], 1, "unknown"),
        (["--session", " , "], 1, "empty"),
        (["--similar-to", "nope", "--fallback", "error"], 1, "unknown"),
        (["--user", "u0001", "-k", "0"], 1, "k = 0"),
        ([], 2, "exactly one"),
        (["--user", "a", "--session", "b"], 2, "exactly one"),
        (["--user", "a", "--anonymous", "b"], 2, "exactly one"),
        (["--anonymous", "nobody", "--fallback", "error"], 1, "no history is known of the anonymous visitor"),
        (["--as-of", "maybe", "--user", "a"], 2, "maybe"),
        (["--context", "maybe", "--user", "a"], 2, "maybe"),
    ],
)
def test_errors_are_two_lines_with_their_exit_code(molar, trained, arguments, code, words):
    done = molar("query", *arguments, "--workspace", trained.workspace)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_id_that_differs_by_case_or_blanks_is_suggested(molar, trained):
    for typed in (trained.user.upper(), f" {trained.user} "):
        for fallback, code in (("error", 1), ("popular", 0)):
            asked = ("query", "--user", typed, "--fallback", fallback, "--quiet", "--workspace", trained.workspace)
            done = molar(*asked)
            assert done.returncode == code
            assert f"did you mean '{trained.user}'?" in done.stderr
    assert "did you mean" not in molar("query", "--user", "u99999", "--workspace", trained.workspace).stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--fallback=error", "--user", "u99999"], 1), (["--as-of", "maybe", "--user", "a"], 2)],
)
def test_with_json_an_error_is_the_document(molar, trained, arguments, code):
    done = molar("query", *arguments, "--json", "--workspace", trained.workspace)
    failed = json.loads(done.stdout)
    assert (done.returncode, failed["code"]) == (code, code)
    assert "u99999" in failed["error"] or "maybe" in failed["error"]
    assert failed["hint"]


def test_a_missing_workspace_names_the_command(molar, tmp_path):
    done = molar("query", "--user", "1", "--workspace", tmp_path / "nowhere")
    assert done.returncode == 3
    assert "molar embed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


def test_fewer_than_k_are_explained(molar, trained):
    done = molar("query", "--user", trained.user, "-k", 500, "--json", "--workspace", trained.workspace)
    answer = json.loads(done.stdout)
    assert len(answer["items"]) < 500
    assert "hidden" in answer["shortfall"]


HEAVY = ("torch", "transformers", "sentence_transformers", "qdrant_client", "timm", "implicit")
LIGHT = (*HEAVY, "numpy", "pyarrow", "scipy")


def modules_after(arguments):
    """The modules that a run of the command has imported when it ends."""
    script = f"""
import os, sys
sys.argv = ["molar", *{arguments!r}]
os._exit = sys.exit  # a query leaves without looking back, and would take the list with it
from molar_cli.app import main
try:
    main()
except SystemExit:
    sys.stderr.write(" ".join(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return set(done.stderr.split()), done


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["embed", "--help"], ["query", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    modules, done = modules_after(arguments)
    assert done.stdout
    assert not modules & set(LIGHT)


def test_a_query_by_user_imports_nothing_heavy(trained):
    arguments = ["query", "--user", trained.user, "--json", "--workspace", str(trained.workspace)]
    modules, done = modules_after(arguments)
    assert json.loads(done.stdout)["items"]
    assert "qdrant_edge" in modules
    assert not modules & {*HEAVY, "pyarrow", "scipy", "lark"}


def test_a_query_by_session_imports_nothing_heavy(trained):
    arguments = ["query", "--session", "SKU-0001,SKU-0002", "--json", "--workspace", str(trained.workspace)]
    modules, done = modules_after(arguments)
    assert json.loads(done.stdout)["items"]
    assert not modules & {*HEAVY, "pyarrow", "scipy", "safetensors", "lark"}


def test_unknown_items_of_a_session_are_noted(molar, trained):
    done = molar("query", "--session", "SKU-0001,gone", "--workspace", trained.workspace)
    assert done.returncode == 0
    assert "as they are unknown: 'gone'" in " ".join(done.stderr.split())


def test_a_filter_leaves_only_what_fulfils_it_and_a_mistake_is_pointed_at(molar, trained):
    done = molar("query", "--user", trained.user, "-k", 200, "--json", "--where", "category = Shoes",
                 "--workspace", trained.workspace)  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert 0 < len(answer["items"]) < 100
    assert "the filter leaves out others" in answer["shortfall"]
    first = answer["items"][0]["item_id"]
    candidates = f"{first}, {answer['items'][1]['item_id']}"
    less = molar("query", "--user", trained.user, "--json", "--where", "category = Shoes", "--exclude", first,
                 "--candidates", candidates, "--workspace", trained.workspace)  # fmt: skip
    assert [item["item_id"] for item in json.loads(less.stdout)["items"]] == [answer["items"][1]["item_id"]]
    wrong = molar("query", "--user", trained.user, "--where", "category is Shoes", "--workspace", trained.workspace)
    assert wrong.returncode == 1
    lines = wrong.stderr.splitlines()
    assert lines[1:3] == ["  category is Shoes", "              ^"]
    assert lines[3].startswith("remedy: fields are")


@pytest.mark.parametrize("option", [["--explain"], ["--diversity", 0.5], ["--calibrate", "category"]])
def test_a_search_refuses_what_it_would_not_heed(molar, trained, option):
    done = molar("query", "--text", "shoes", *option, "--workspace", trained.workspace)
    assert done.returncode == 1
    assert "changes nothing in the answer of `search`" in done.stderr
