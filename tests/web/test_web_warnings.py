"""What the server says of itself is kept for a while, without secrets."""

import logging
from pathlib import Path

import pytest

from molar_serving.observability import log_warnings, newest_warnings


@pytest.fixture
def logging_to(tmp_path: Path):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    root.handlers.clear()
    log_warnings(tmp_path)
    yield tmp_path
    for handler in root.handlers:
        handler.close()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_warnings_and_errors_are_kept_with_what_was_raised(logging_to: Path) -> None:
    assert newest_warnings(logging_to, 10) == []
    log = logging.getLogger("molar.serving")
    log.info("not kept")
    log.warning("http://anna:secret@host does not answer")
    try:
        raise ValueError("a token: hf_abcdefghijklmnop")
    except ValueError:
        log.exception("request %s failed", "01J")
    newest, older = newest_warnings(logging_to, 10)
    assert (newest.level, newest.logger) == ("ERROR", "molar.serving")
    assert newest.text == "request 01J failed: ValueError: a token: …"
    assert older.level == "WARNING"
    assert "secret" not in older.text
    assert newest_warnings(logging_to, 1) == [newest]


def test_where_they_cannot_be_kept_standard_error_has_them(logging_to: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (logging_to / "serving").write_text("a file, no folder")
    logging.getLogger("molar.serving").error("said")
    assert newest_warnings(logging_to, 10) == []
