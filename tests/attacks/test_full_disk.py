"""Full disks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = dict(os.environ)
"""Without what molar does not know, and would refuse."""
MOLAR = [sys.executable, "-c", "from molar_cli.app import main; main()"]
BUILD = """
import sys
from pathlib import Path
from molar_indexes.backends import build_index
from molar_retrieval.errors import DiskError
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
items = [IndexItem(row, str(row), {"v": [1.0] * 64}, {"brand": f"b{row}", "text": "x" * 2000}) for row in range(3000)]
try:
    build_index(Path(sys.argv[1]) / "index", "edge", IndexSpec({"v": 64}, {"brand": "keyword"}), items)
except DiskError as error:
    print("refused:", error)
else:
    print("built")
"""


def small(place: Path, megabytes: int, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines where ``place`` is a disk of its own, of so many megabytes."""
    mount = f'mount -t tmpfs -o size={megabytes}m none "$0" || exit 99\n'
    command = ["unshare", "-m", "sh", "-c", mount + shell, str(place), *MOLAR[:1]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    if done.returncode == 99 or "unshare:" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    return done


def test_an_index_is_built_or_refused_on_a_disk_of_any_size(tmp_path, rounds, measured):
    """Building an index on a disk that is too small is refused in words, however small it is; no signal ends it."""
    program = tmp_path / "build.py"
    program.write_text(BUILD, "utf-8")
    place = tmp_path / "disk"
    place.mkdir()
    sizes = rounds((2, 80), tuple(range(2, 240, 4)))
    said = [small(place, size, f'exec "$1" {program} "$0"') for size in sizes]
    assert [(size, one.returncode, one.stderr) for size, one in zip(sizes, said, strict=True) if one.returncode] == []
    assert all(one.stdout.startswith(("refused: ", "built")) for one in said)
    refused = sum(one.stdout.startswith("refused") for one in said)
    assert refused
    measured(f"{len(sizes)} sizes: {refused} refused, {len(sizes) - refused} built")


def test_every_command_names_a_full_disk(shop, tmp_path, rounds, measured):
    """On a full disk every command that writes ends at once and names the disk, and queries are answered."""
    writing = [
        ["recommend", "--out", str(tmp_path / "disk" / "lists.parquet")],
        *rounds([], [["embed", str(shop.shop)], ["cf"], ["evaluate", "--suite", "quick"], ["index", "rollback"]]),
        *rounds([], [["align", "--restart"]]),
    ]
    place = tmp_path / "disk"
    place.mkdir()
    fill = f'cp -r --sparse=never {shop.workspace} "$0/.molar"; cat /dev/zero > "$0/ballast" 2>/dev/null; cd "$0"\n'
    for command in writing:
        began = time.perf_counter()
        done = small(place, 800, fill + 'exec "$1" ' + quoted([*MOLAR[1:], *command]))
        assert done.returncode == 1, (command, done.stdout, done.stderr)
        assert str(place) in done.stderr.replace("\n", "")
        assert "left" in done.stderr
        assert "unexpected" not in done.stderr
        assert time.perf_counter() - began < 60
    done = small(place, 800, fill + 'exec "$1" ' + quoted([*MOLAR[1:], "query", "--user", shop.user]))
    assert done.returncode == 0, done.stderr
    measured(f"{len(writing)} commands refused, queries answered")


def quoted(words: list[str]) -> str:
    return " ".join(f"'{word}'" for word in words)


def test_a_limit_on_files_is_named(shop, measured):
    """A file that may not grow is a typed error, not a signal."""
    (shop.workspace.parent / "molar.toml").write_text("[index]\nm = 15\n", "utf-8")
    limited = ["bash", "-c", 'ulimit -f 1024; exec "$@"', "-", *MOLAR, "align"]
    done = subprocess.run(
        limited, cwd=shop.workspace.parent, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 1, done.stderr
    assert "larger than is allowed" in done.stderr
    assert "ulimit" in done.stderr
    measured("exit code 1")
