"""Odd files and words.

Whatever a file, an id or an option holds, the answer is a result or an error with a remedy, and nothing that is shown
is obeyed by a terminal.
"""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from molar_cli.app import app
from molar_cli.console import Console
from molar_eval import suite
from molar_retrieval.data.schema import CatalogueConfig
from molar_retrieval.errors import MolarError
from molar_retrieval.ranking.explanations import Speaker
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.rules import Rules
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

OBEYED = "".join(
    map(chr, [*range(10), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
)
"""C0 but the end of a line, DEL, C1, and what turns the direction of writing."""
DIGITS = "9" * 4_000


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "unexpected" not in done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout + done.stderr


def test_a_terminal_obeys_nothing_that_is_shown(capsys: Any) -> None:
    """Escapes, control characters and turned writing in ids, titles, payload and errors are shown, not obeyed."""
    text = f"\x1b]0;title\x07 a {OBEYED} \ud800 b [red]c[/red]\\"
    console = Console()
    console.table(["item", ">title"], [[text, "x"]], title=text)
    console.line(text)
    console.note(text)
    console.error(text, text)
    try:
        raise ValueError(text)
    except ValueError:
        console.traceback()
    shown = capsys.readouterr()
    assert not set(shown.out + shown.err) & {*OBEYED, "\ud800"}
    assert "\\u001b" in shown.out
    assert "[red]c[/red]" in shown.out
    console.document({"id": text})
    document = capsys.readouterr().out
    assert not set(document) & {*OBEYED, "\ud800"}
    assert json.loads(document) == {"id": text}


def test_a_catalogue_cannot_move_the_cursor(tmp_path: Path) -> None:
    """An id with escapes from a catalogue or the command line comes out of commands harmlessly."""
    (tmp_path / "shop").mkdir()
    bad = "\x1b[2J\u202e\x9b31m"
    table = pa.table({"item_id": [bad, bad, "b"], "title": ["x", bad, "y"]})
    pq.write_table(table, tmp_path / "shop" / "items.parquet")
    for command in (["check", tmp_path / "shop"], ["query", "--user", bad], ["query", "--text", bad]):
        for more in ([], ["--json"], ["--debug"]):
            _, said = run(*command, *more, "-w", tmp_path / ".molar")
            assert not set(said) & set(OBEYED), command


WEIRD = (
    '"x"', "3", "-1", "1e400", "nan", "true", "[]", "{}", "1979-05-27", DIGITS, "'{items:Z}'", '"{items!r:>{q}}"',
    '"{}{}"', "'default'", "['a']", '"\\u001b[31m"', "'collaborative'",
)  # fmt: skip
WORDS = (
    "embed", "align", "index", "split", "als", "finetune", "lora", "en", "de", "together", "quote", "items", "text",
    "users", "interactions", "rule", "title", "ban", "boost", "require", "at_least", "of", "first", "per", "fresh",
    "model", "preset", "models", "epochs", "cold_start_share",
    "dim", "batch_size", "url", "segments", "keep", "item_id",
    "lists", "separator", "exclude", "attributes", "splits", "models", "seeds", "columns",
)  # fmt: skip
VALUES = st.recursive(
    st.sampled_from(WEIRD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        inner.map(lambda part: f"{{ a = {part} }}"),
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(WORDS)
LINES = st.one_of(
    st.tuples(KEYS, VALUES).map(" = ".join),
    KEYS.map("[{}]".format),
    KEYS.map("[[{}]]".format),
    st.tuples(KEYS, KEYS, VALUES).map(lambda three: f"{three[0]}.{three[1]} = {three[2]}"),
)
FILES = st.one_of(st.lists(LINES, max_size=8).map("\n".join).map(str.encode), st.binary(max_size=40))
NAMED = [
    b"align = 3", b"align = [1]", b"[align]\nepochs = " + DIGITS.encode(), b"a = " + b"[" * 5_000, b"\xff\xfe",
    b"a" + b".a" * 5_000 + b" = 1", b"[en]\ntogether = '{items:Z}'", b"[en]\nquote = '{}{}'", b"a = " + b"9" * 5_000,
    b"[[rule]]\nban = " + b"{a=" * 900 + b"1" + b"}" * 900, b"x" * (1 << 20) + b"=1",
    b"[index]\nkeep = " + DIGITS.encode(),
    b"rule = 3", b"[embed]\nmodel = '\x00'", b"[en]\ntogether = '{items:999999999999}'",
]  # fmt: skip


def read(folder: Path, content: bytes) -> None:
    """Give a file to all who read TOML; each takes it or says what is wrong."""
    path = folder / "molar.toml"
    path.write_bytes(content)
    shutil.copyfile(path, folder / "catalog.toml")
    for reader in (
        lambda: MolarSettings.load(folder, environ={}),
        lambda: CatalogueConfig.read(folder),
        lambda: Rules.load(path, {"brand": "keyword"}, {}),
        lambda: Speaker.of("en", path),
        lambda: suite.load(str(path)),
    ):
        with suppress(MolarError):
            reader()


@pytest.mark.parametrize("content", NAMED, ids=range(len(NAMED)))
def test_a_file_that_is_wrong_is_named(content: bytes, tmp_path: Path) -> None:
    """A wrong type, deep nesting, 4,000 digits, wrong gaps or broken UTF-8 in a TOML file are named with a remedy."""
    read(tmp_path, content)
    for command in (["align", "-w", tmp_path / ".molar"], ["doctor", "-w", tmp_path / ".molar"]):
        assert run(*command)[0] != 0 or command[0] == "doctor"


def test_fuzzed_files_of_settings(tmp_path_factory: Any, rounds: Any, measured: Any) -> None:
    """Fuzzed files of settings, rules, reasons, suites and catalogues are read or refused with a remedy."""
    folder = tmp_path_factory.mktemp("fuzz")
    count = rounds(60, 3_000)

    @settings(max_examples=count, deadline=None)
    @given(FILES)
    def fuzz(content: bytes) -> None:
        read(folder, content)

    fuzz()
    measured(f"{count:,} files")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"catalogue": 3}', b"\xff", b"[" * 100_000, b'{"catalogue": ' + b"9" * 5_000 + b"}"],
)  # fmt: skip
def test_a_damaged_binding_is_named(content: bytes, tmp_path: Path) -> None:
    """A damaged workspace.json becomes an error with a remedy."""
    shop = tmp_path / "shop"
    shop.mkdir()
    pq.write_table(pa.table({"item_id": ["a"], "title": ["x"]}), shop / "items.parquet")
    place = tmp_path / ".molar"
    place.mkdir()
    (place / "workspace.json").write_bytes(content)
    for command in (["embed", shop], ["embed", shop, "--dry-run"], ["align"], ["cf"], ["index", "list"]):
        code, said = run(*command, "-w", place)
        assert code in (1, 3) or command[0] == "index"
        assert "remedy" in said or command[0] == "index"


@pytest.mark.parametrize("number", [DIGITS, "9" * 5_000, "-" + DIGITS, "1e999", "9" * 20, f"0.{DIGITS}e4000"])
def test_a_number_of_many_digits_in_a_condition(number: str) -> None:
    """A condition with a number that no column can hold is refused with a remedy."""
    for kind in ("integer", "float"):
        for sign in ("=", "<", "in ("):
            with pytest.raises(MolarError) as caught:
                parse(f"year {sign} {number}" + ")" * sign.endswith("("), {"year": kind})
            assert caught.value.hint


def test_a_word_that_is_no_text(tmp_path: Path) -> None:
    """Bytes on the command line that are not UTF-8 become an error with a remedy."""
    molar = Path(sys.executable).with_name("molar")
    done = subprocess.run([molar, "query", "--session", b"\xff\xfe", "-w", tmp_path], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"not UTF-8" in done.stderr
    assert b"remedy" in done.stderr


@pytest.mark.parametrize("length", [441, 600, 5_000])
def test_a_workspace_whose_path_is_too_long(length: int, tmp_path: Path) -> None:
    """A workspace path that is too long for the engine is refused before any work."""
    (tmp_path / "shop").mkdir()
    pq.write_table(pa.table({"item_id": ["a"], "title": ["x"]}), tmp_path / "shop" / "items.parquet")
    root = tmp_path
    while len(str(root)) < length:
        root /= "x" * min(200, max(1, length - len(str(root)) - 1))
    for command in (["embed", tmp_path / "shop"], ["embed", tmp_path / "shop", "--dry-run"], ["query", "--user", "a"]):
        code, said = run(*command, "-w", root)
        assert code == 1
        assert "path" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


def test_the_longest_path_works(tmp_path: Path) -> None:
    """A path of exactly the longest length is taken."""
    (tmp_path / "shop").mkdir()
    root = tmp_path
    while len(str(root)) < 440:
        root /= "x" * min(200, max(1, 440 - len(str(root)) - 1))
    if len(str(root)) == 440:
        assert Workspace.for_catalogue(root, tmp_path / "shop").catalogue == tmp_path / "shop"


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in [folder, *folder.rglob("*")]}


def test_a_dry_run_leaves_no_trace(shop: Any, tmp_path: Path) -> None:
    """A dry run writes nothing into a workspace, present or not, even where the catalogue has changed."""
    items = next(shop.shop.glob("items.*"))
    items.touch()
    before = tree(shop.workspace)
    for command in (["embed", "--dry-run"], ["embed", "--dry-run", "--where", "price < 30"], ["finetune", "--dry-run"]):
        code, said = run(*command, shop.shop, "-w", shop.workspace)
        assert code == 0, said
        assert tree(shop.workspace) == before, command
    assert run("embed", "--dry-run", shop.shop, "-w", tmp_path / "new" / ".molar")[0] == 0
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["embed"], ["embed", "--dry-run"], ["finetune"], ["check"], ["evaluate"]])
def test_a_mistyped_path_binds_nothing(command: list[str], tmp_path: Path) -> None:
    """A catalogue path with no catalogue in it makes no workspace, in any command."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "no-such-shop", tmp_path / "empty", tmp_path / "empty" / "\udcff"):
        code, said = run(*command, path, "-w", tmp_path / ".molar")
        assert code == 1
        assert "remedy" in said
        assert not (tmp_path / ".molar").exists()
