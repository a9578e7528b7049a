"""What the server says on its standard error: warnings and errors, without secrets."""

import logging

from molar_retrieval.redaction import redacted


class RedactedFormatter(logging.Formatter):
    """Takes secrets out of messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in a text."""
        return redacted(super().format(record))


def log_to_stderr() -> None:
    """Send warnings and errors of all libraries there."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactedFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
