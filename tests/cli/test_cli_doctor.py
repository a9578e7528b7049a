"""`molar doctor` as a program."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sentence_transformers", "qdrant_client", "timm", "implicit", "scipy")


def test_outside_of_a_workspace(molar, tmp_path):
    assert "torch" not in json.loads(molar("doctor", "--json", cwd=tmp_path).stdout)["sections"]["software"]
    done = molar("doctor", "--json", "--versions", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    said = json.loads(done.stdout)
    assert set(said["sections"]) == {"software", "machine", "places"}
    assert not said["broken"]
    assert said["sections"]["software"]["torch"]["state"] == "fine"
    assert said["sections"]["places"]["workspace"]["value"]["exists"] is False


def test_it_starts_without_heavy_libraries(tmp_path):
    script = f"""
import sys
sys.argv = ["molar", "doctor", "--quiet"]
from molar_cli.app import main
try:
    main()
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_trained_workspace_is_well(molar, trained):
    done = molar("doctor", "--deep", "--workspace", trained.workspace)
    assert done.returncode == 0, done.stdout
    for words in ("Software", "Machine", "Places", "Artefacts", "Generations", "(live)", "avx2" if _has_avx2() else ""):
        assert words in done.stdout
    assert done.stdout.splitlines()[0] == "nothing is wrong"


def test_problems_come_with_remedies_and_exit_code_1(molar, tmp_path):
    (tmp_path / "molar.toml").write_text("[embed]\nbatch_sise = 3\n")
    done = molar("doctor", "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "✗ places: the settings are wrong: molar.toml: unknown key 'embed.batch_sise'".replace(
            "molar.toml", f"{tmp_path.resolve()}/molar.toml"
        ),
        "  remedy: did you mean 'batch_size'?",
    ]


def test_problems_come_first(molar, tmp_path):
    (tmp_path / "molar.toml").write_text("[embed]\nbatch_sise = 3\n")
    first, *rest = molar("doctor", cwd=tmp_path).stdout.splitlines()
    assert first.startswith("✗ places: the settings are wrong")
    assert any("Machine" in line for line in rest)


def test_a_blas_that_is_known_to_crash_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "SkylakeX")
    script = "from molar_cli.app import main; main()"
    command = [sys.executable, "-c", script, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    machine = json.loads(done.stdout)["sections"]["machine"]
    found = {name: one for name, one in machine.items() if name == "blas (openblas, SciPy)"}
    if not found or found["blas (openblas, SciPy)"]["value"]["architecture"] != "SkylakeX":
        pytest.skip("SciPy has no OpenBLAS of its own here, or no kernels for AVX-512")
    told = subprocess.run([*command[:-1]], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "crashes on Cholesky" in " ".join(told.split())


def test_the_home_folder_is_not_told(molar, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    script = "import os; os.environ['HOME'] = os.getcwd(); from molar_cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "doctor"], capture_output=True, text=True, cwd=tmp_path)
    assert str(tmp_path) not in done.stdout
    assert "~/.molar" in done.stdout


def _has_avx2():
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return " avx2 " in file.read()
    except OSError:
        return False
