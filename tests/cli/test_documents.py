"""The documents tell the truth: README commands run, the CLI reference is that of the commands."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from warm import MOLAR

import molar
from molar_indexes.server.config import go_together

ROOT = Path(__file__).resolve().parents[2]


def fences(language):
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def walked(demo, shell):
    """A folder in which the README's shell block was run, line by line; its first line by whoever needed it first."""
    (script,) = fences("sh")
    first, _, others = script.partition("\n")
    assert first == "molar demo molar-demo"
    return demo, shell(others, demo, MOLAR_ALIGN_EPOCHS="1")


@pytest.mark.slow
def test_the_readme_commands_run_word_for_word(walked):
    _, done = walked
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout  # the second embed and the second align find their work done
    assert "id_tower" in done.stdout


TABLES = """
import pandas as pd
items = pd.read_parquet("items.parquet")
interactions = pd.read_parquet("interactions.parquet").replace({"user_id": {"u0001": "u1"}})
"""


@pytest.mark.slow
def test_the_readme_python_runs_word_for_word_as_a_plain_script_of_a_shop_of_1500_users(tmp_path):
    molar.demo(tmp_path / "demo", items=80, users=1500)
    (code,) = fences("python")
    (program := tmp_path / "program.py").write_text(f"{TABLES}{code}\nprint(answer.to_pandas())", "utf-8")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path / "demo" / "shop", env={**os.environ, "MOLAR_ALIGN_EPOCHS": "1"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[10 rows x" in done.stdout
    assert not re.search("Traceback|Error|Warning", done.stderr), done.stderr


@pytest.mark.slow
def test_the_demo_of_1500_users_runs_in_a_relative_folder(warm, tmp_path):
    done = warm.run(MOLAR, "demo", "made/demo", "--items", 80, "--users", 1500, cwd=tmp_path, MOLAR_ALIGN_EPOCHS="1")
    assert done.returncode == 0, done.stderr
    assert "1500 users" in done.stdout


def test_the_first_five_minutes_are_five():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    figures = text.partition("## What it is good at")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\|", figures, re.MULTILINE)) <= 12 + 2


def test_the_side_by_side_is_the_code_that_runs():
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    lines = {}
    for name in ("molar", "RecTools", "LensKit"):
        code = (ROOT / "bench" / "side_by_side" / f"with_{name.lower()}.py").read_text("utf-8").partition('"""\n\n')[2]
        assert f"```python\n{code}```" in text, f"docs/python.md shows other code than with_{name}.py"
        lines[name] = len([line for line in code.splitlines() if line])
        assert f"| {name} | {lines[name]} |" in text
    assert lines["molar"] <= min(lines["RecTools"], lines["LensKit"])


def test_every_link_of_the_documents_leads_somewhere():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("name", ["cli", "python", "security", "server", "serving"])
def test_what_is_made_from_code_is_up_to_date(name):
    spec = importlib.util.spec_from_file_location(f"write_{name}", ROOT / "docs" / f"write_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / f"{name}.md").read_text("utf-8") == module.render(), "run `make docs`"


def test_the_compose_file_is_one():
    text = (ROOT / "docs" / "server.md").read_text("utf-8")
    compose, values = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.M))
    (service,) = compose["services"].values()
    assert service["image"].startswith("qdrant/qdrant:v")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["image"].partition(":")[2] == values["image"]["tag"]
    tag = values["image"]["tag"].lstrip("v")
    assert go_together(metadata.version("qdrant-client"), tag)
