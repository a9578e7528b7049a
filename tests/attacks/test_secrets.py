"""Secrets.

Canaries stand for a key and for a login; they are looked for in every byte of what commands print.
"""

import json
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from typer.testing import CliRunner

from molar_cli.app import app
from molar_indexes.server import client
from molar_indexes.server.config import KEY
from molar_retrieval.errors import BackendError, SettingsError

CANARY = "canary-4f1d\\'\"%-of-a-key"
PASSWORD = "p@ss-canary-9c"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQdrant]:
    monkeypatch.setattr(client, "PATIENCE", 0.0)
    with fake_qdrant() as server:
        yield server


@pytest.fixture(autouse=True)
def _index_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """What :func:`on` sets is gone after the test."""
    monkeypatch.setenv("MOLAR_INDEX_URL", "")
    monkeypatch.delenv("MOLAR_INDEX_URL")


def run(*arguments: object) -> tuple[int, str]:
    """Exit code, and all that is printed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout + done.stderr + repr(done.exception)


COMMANDS = [
    [*command, *debug, *as_json]
    for command in (["query", "--user", "nobody"], ["index", "push"], ["doctor"])
    for debug in ([], ["--debug"])
    for as_json in ([], ["--json"])
]


def on(command: list[str], workspace: Path, url: str) -> list[object]:
    (workspace.parent / "molar.toml").write_text("[index]\ntimeout = 30\n", "utf-8")
    os.environ.update(MOLAR_INDEX_URL=url)
    return [*command, "-w", workspace]


def bare(text: str) -> str:
    """Without anything between its letters: an escaped or wrapped canary is one, too."""
    return "".join(filter(str.isalnum, text))


ECHOES = (
    CANARY, repr(CANARY), json.dumps(CANARY), repr(CANARY.encode()), "x" * 290 + CANARY, "x" * 170 + CANARY,
    CANARY + "\u202e",
)  # fmt: skip


def test_a_mounted_key_works_and_is_not_told(
    shop: Any, fake: FakeQdrant, monkeypatch: Any, rounds: Any, measured: Any
) -> None:
    """A key with a newline at its end, as mounted secrets have, works, and no server can make it appear."""
    monkeypatch.setenv(KEY, CANARY + "\r\n")
    fake.key = CANARY
    code, said = run("index", "push", "--to", fake.url, "-w", shop.workspace)
    assert code == 0, said
    every = [(status, echo, command) for status, echo in product((401, 500), ECHOES) for command in COMMANDS]
    tried = every[:: rounds(11, 1)]
    for status, echo, command in tried:
        fake.faults = [Fault(".", times=1000, status=status, error=f"not {echo}, is it?")]
        code, said = run(*on(command, shop.workspace, fake.url))
        assert "canary" not in bare(said), command
        assert code in (1, BackendError.exit_code)
    measured(f"0 bytes of the key in the output of {len(tried)} commands")


def test_a_key_that_is_none_is_refused_unseen(shop: Any, fake: FakeQdrant, monkeypatch: Any, rounds: Any) -> None:
    """A key that cannot be sent is refused at the start, before anything is asked, and not shown."""
    keys = ("canary-\u00e9\u201d", "canary\nX-Other: 1", "canary\u200b", "canary\udc80")
    for key, command in list(product(keys, COMMANDS))[:: rounds(5, 1)]:
        monkeypatch.setenv(KEY, key)
        code, said = run(*on(command, shop.workspace, fake.url))
        assert code == (1 if command[0] == "doctor" else SettingsError.exit_code), said
        assert KEY in said
        assert "canary" not in said
    assert not fake.asked


def test_no_login_is_told(shop: Any) -> None:
    """An address with a login is refused, and neither the refusal nor its traceback shows the login."""
    url = f"http://ada:{PASSWORD}-{'x' * 60}@db:6333/?api_key={PASSWORD}"
    given = [["query", "--user", "nobody", "--index", url], ["index", "push", "--to", url]]
    for command in [*COMMANDS, *given, *([*one, "--debug"] for one in given)]:
        code, said = run(*on(command, shop.workspace, url))
        assert code in (1, SettingsError.exit_code)
        assert "canary" not in said, command
