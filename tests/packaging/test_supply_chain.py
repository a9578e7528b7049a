"""The lock files against pyproject.toml, and what the check of licences refuses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "requirements"


def run(script, *words):
    """The exit code of a script of requirements/, and what it printed."""
    done = subprocess.run([sys.executable, SCRIPTS / script, *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """The files that the lock files are made from, and these, to be changed."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "requirements").mkdir()
    for path in (*SCRIPTS.glob("*.lock"), SCRIPTS / "torch.toml"):
        shutil.copy(path, tmp_path / "requirements")
    return tmp_path


def change(path, old, new):
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def test_the_lock_files_are_current():
    assert run("lock.py", "--check") == (0, "")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pyproject.toml", '"lark>=1.3"', '"lark>=1.3", "aiofiles>=24"', "aiofiles>=24"),
        ("pyproject.toml", '"lark>=1.3"', '"lark>=99"', "lark>=99"),
        ("pyproject.toml", '"build>=1.2"', '"build>=1.1"', "dev.lock was not written from the present pyproject.toml"),
        ("requirements/torch.toml", 'version = "2.13.0"', 'version = "2.12.0"', "torch.lock was not written from"),
        ("requirements/runtime.lock", "\nlark==", "\nlark>=", "'lark>=1.3.1' is not pinned"),
        (
            "requirements/runtime.lock",
            "\nlark==",
            "\nlark==1.0 \\\n    --hash=md5:0\nlark==",
            "'lark==1.0' has no SHA-256",
        ),
    ],
)
def test_a_lock_file_that_is_not_current_is_named(copy, file, old, new, said):
    assert run("lock.py", "--check", "--root", copy) == (0, "")
    change(copy / file, old, new)
    code, printed = run("lock.py", "--check", "--root", copy)
    assert code == 1
    assert said in printed


def plant(folder, name, *lines):
    made = folder / f"{name}-1.0.dist-info"
    made.mkdir(parents=True)
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines])
    (made / "METADATA").write_text(f"{text}\n", "utf-8")


def licences(folder):
    """What the check says of a shop with the dependencies that lie in a folder."""
    rules = folder / "rules.toml"
    rules.write_text(
        (SCRIPTS / "licences.toml").read_text("utf-8").partition("[exceptions")[0] + "[exceptions]\n", "utf-8"
    )
    return run("licences.py", "--package", "shop", "--path", folder, "--rules", rules)


@pytest.mark.parametrize(
    "lines",
    [
        ["License-Expression: GPL-3.0-only"],
        ["License-Expression: MIT AND GPL-3.0-or-later"],
        ["License: GPL-3.0"],
        ["License: MIT", "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"],
        ["License: Free for friends"],
        ["License: UNKNOWN"],
        [],
    ],
    ids=["expression", "both", "field", "classifier", "unknown", "not said", "nothing"],
)
def test_a_licence_that_is_not_allowed_fails_however_deep_the_package_lies(tmp_path, lines):
    plant(tmp_path, "shop", "Requires-Dist: fine")
    plant(tmp_path, "fine", "License-Expression: MIT", "Requires-Dist: planted")
    plant(tmp_path, "planted", *lines)
    code, printed = licences(tmp_path)
    assert code == 1
    assert "planted 1.0" in printed
    assert "fine" not in printed


def test_a_licence_that_is_allowed_passes_and_extras_do_not_count(tmp_path):
    plant(tmp_path, "shop", "Requires-Dist: fine", 'Requires-Dist: planted; extra == "more"', "Provides-Extra: more")
    plant(tmp_path, "fine", "License-Expression: GPL-3.0-only OR MIT")
    plant(tmp_path, "planted", "License-Expression: GPL-3.0-only")
    code, printed = licences(tmp_path)
    assert code == 0, printed


def test_an_exception_holds_for_what_the_package_stated_and_no_longer_than_it_is_needed(tmp_path):
    plant(tmp_path, "shop", "Requires-Dist: planted")
    plant(tmp_path, "planted", "License-Expression: LGPL-3.0-only")
    rules = tmp_path / "rules.toml"
    for states, named, wanted in (("LGPL-3.0-only", "planted", 0), ("LGPL-2.0-only", "planted", 1), ("MIT", "gone", 1)):
        rules.write_text(
            f'allowed = ["MIT"]\n[names]\n[exceptions.{named}]\nstates = "{states}"\nreason = "a test"\n', "utf-8"
        )
        assert run("licences.py", "--package", "shop", "--path", tmp_path, "--rules", rules)[0] == wanted, states
