"""Whatever is asked for, `molar query --json` answers with one JSON document or with an error that people can read."""

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from molar_cli.app import app

EXAMPLES = int(os.environ.get("MOLAR_TEST_EXAMPLES", 60))
RUNNER = CliRunner()
CODES = {0, 1, 2}
"""Answered, unanswerable, misused; the workspace is sound, so that nothing is missing and no backend fails."""

words = st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=12)
fields = st.sampled_from(["category", "price", "colour", "material", "item_id", "no such field", ""])
conditions = st.one_of(
    st.sampled_from(["price < 60 and not category = Lamp", "price > 1 or colour is null", "price in (1, 2"]),
    st.builds("{} {} {}".format, fields, st.sampled_from(["=", "!=", "<", "in", "contains", "exists"]), words),
    words,
)
whole = st.one_of(st.integers(1, 120), st.integers(-3, 400), words).map(str)
shares = st.one_of(st.floats(0, 1), st.floats(), words).map(str)
item = st.integers(1, 100).map("SKU-{:04d}".format)
items = st.one_of(st.lists(item, min_size=1, max_size=3), st.lists(words, max_size=3)).map(",".join)
SUBJECTS = {
    "--user": st.one_of(st.integers(1, 170).map("u{:04d}".format), words),
    "--session": items,
    "--similar-to": item | words,
}
OPTIONS = {
    "-k": whole,
    "--where": conditions,
    "--exclude": items,
    "--candidates": items,
    "--context": st.one_of(st.sampled_from(["auto", "in_session"]), words),
    "--as-of": st.one_of(st.sampled_from(["2026-01-01T00:00Z", "2026-01-01"]), words),
    "--diversity": shares,
    "--calibrate": fields,
    "--language": st.one_of(st.sampled_from(["en", "ja"]), words),
    "--fallback": st.sampled_from(["error", "popular", "else"]),
}


@st.composite
def requests(draw: st.DrawFn) -> list[str]:
    """Options of `molar query`, sensible and not."""
    subject = draw(st.sampled_from(list(SUBJECTS)))
    chosen = [subject, *draw(st.lists(st.sampled_from([*OPTIONS, *SUBJECTS]), max_size=2, unique=True))]
    asked = [f"{name}{'=' if len(name) > 2 else ''}{draw((OPTIONS | SUBJECTS)[name])}" for name in chosen]
    return asked + (["--explain"] if draw(st.booleans()) else [])


def strictly(text: str) -> Any:
    """The JSON document that a text is; numbers that JSON does not have are refused."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests())
def test_one_document_or_an_error_with_its_remedy(trained: Any, asked: list[str]) -> None:
    done = RUNNER.invoke(app, ["query", *asked, "--json", "--workspace", str(trained.workspace)])
    assert done.exception is None or isinstance(done.exception, SystemExit), (asked, done.exception)
    assert done.exit_code in CODES, (asked, done.output)
    assert "Traceback" not in done.stderr
    event(str(done.exit_code))
    if done.exit_code:
        assert done.stderr
        if done.stdout:  # what typer itself refuses becomes a document in the program only
            failed = strictly(done.stdout)
            assert list(failed) == ["error", "hint", "code"]
            assert failed["code"] == done.exit_code
        return
    answer = strictly(done.stdout)
    ranks = [item["rank"] for item in answer["items"]]
    assert ranks == list(range(1, len(ranks) + 1))
    assert len(ranks) == answer["k"] or answer["shortfall"]
    for item in answer["items"]:
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-4)
