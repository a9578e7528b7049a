"""Secrets of a workspace that its server makes for itself."""

import os
import secrets
from pathlib import Path

from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import files


class SecretFile:
    """32 random bytes in a file that nobody else can read; whichever process needs them first makes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: bytes | None = None

    @property
    def value(self) -> bytes:
        """The secret; a MolarError where there is none and none can be made."""
        if self._known is None:
            try:
                self._known = self._read() or self._made()
            except OSError as error:
                told = f"{self.path} cannot be made: {error}"
                raise files.disk_error(error) or MolarError(told, "see to it") from error
        return self._known

    def _read(self) -> bytes | None:
        try:
            return bytes.fromhex(self.path.read_text("ascii"))
        except FileNotFoundError:
            return None

    def _made(self) -> bytes:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = self.path.with_name(f".{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        file = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as text:
            text.write(secrets.token_hex(32))
            text.flush()
            os.fsync(text.fileno())
        try:
            self.path.hardlink_to(own)  # fails where another process was first: its secret is everybody's
        except FileExistsError:
            pass
        finally:
            own.unlink()
        found = self._read()
        assert found is not None
        return found
