"""What the server says: warnings and errors, without secrets, on its standard error; the last ones are kept."""

import logging
import traceback
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace.activity_log import JsonLines
from molar_serving.audit import FOLDER

_FILE, _BYTES, _OLDER = "warnings.jsonl", 1 << 18, 1
_CHARACTERS = 1_000  # of what was said


class RedactedFormatter(logging.Formatter):
    """Takes secrets out of messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in a text."""
        return redacted(super().format(record))


@dataclass(frozen=True)
class ServerWarning:
    """Something that a server said of itself: when (ISO 8601), how bad it is, which part said it, and what."""

    time: str
    level: str
    logger: str
    text: str


class KeptWarnings(logging.Handler):
    """Keeps the last warnings and errors of all processes that serve a workspace, in ``serving/warnings.jsonl``."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(logging.WARNING)
        self._lines = JsonLines(workspace / FOLDER / _FILE, most=_BYTES, kept=_OLDER)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; where it cannot be written, standard error has it."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {''.join(traceback.format_exception_only(record.exc_info[1])).strip()}"
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname, "logger": record.name, "text": redacted(text)[:_CHARACTERS]}
        with suppress(MolarError):
            self._lines.append(said)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
        super().close()


def log_warnings(workspace: Path) -> None:
    """Send warnings and errors of all libraries to standard error, and keep the last ones in a workspace."""
    told = logging.StreamHandler()
    told.setFormatter(RedactedFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[told, KeptWarnings(workspace)], force=True)


def newest_warnings(workspace: Path, most: int) -> list[ServerWarning]:
    """The last warnings and errors, the newest first."""
    lines = JsonLines(workspace / FOLDER / _FILE)
    return [ServerWarning(**one) for one in lines.newest(most)]
