"""The file of rules beside a workspace, which may be replaced; former versions stay in ``WORKSPACE/serving/rules/``."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256

from molar_indexes.recommender import RULES_FILE
from molar_retrieval.binding import file_beside
from molar_retrieval.durable import write_atomically
from molar_retrieval.workspace import Workspace

_FOLDER = "serving/rules"
_KEPT = 100  # former versions


class RulesFile:
    """The rules of a workspace as text; processes take turns at replacing them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._folder = workspace, workspace.root / _FOLDER
        self.path = file_beside(workspace.root, RULES_FILE)

    @property
    def text(self) -> str:
        """What the file says; nothing where there is none."""
        try:
            return self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def versions(self) -> list[str]:
        """Names of former versions, the newest first."""
        return sorted((path.stem for path in self._folder.glob("*.toml")), reverse=True)

    def version(self, name: str) -> str | None:
        """The text of a former version; None where there is none of this name."""
        if name not in self.versions():
            return None
        return (self._folder / f"{name}.toml").read_bytes().decode("utf-8", "replace")

    def replace(self, text: str, allowed: Callable[[str], None]) -> tuple[str, str | None] | None:
        """Write another text, once ``allowed`` was called with the present one and raised nothing.

        A DataError where another process is about to. Returns the former text with the name of its version, which is
        None where there was nothing; None where nothing has changed.
        """
        with self._workspace.lock(_FOLDER, "changing the rules of"):
            former = self.text
            allowed(former)
            if text == former:
                return None
            name = None
            if former:
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{etag_of(former)[:8]}"
                write_atomically(self._folder / f"{name}.toml", former)
            write_atomically(self.path, text)
            for old in self.versions()[_KEPT:]:
                with suppress(FileNotFoundError):
                    (self._folder / f"{old}.toml").unlink()
            return former, name


def etag_of(text: str) -> str:
    """What changes with a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
