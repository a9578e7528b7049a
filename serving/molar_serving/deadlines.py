"""By when there must be an answer: what the server allows, or less, by ``Prefer: wait=50ms`` (RFC 7240)."""

import re
import time

from starlette.requests import Request

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,6})?)(ms|s)?\"?\s*(?:$|[,;])", re.IGNORECASE)


def deadline_of(request: Request, most: float) -> float:
    """The moment on the clock of ``time.perf_counter``; ``most`` are the seconds that the server allows.

    ``wait`` counts seconds, as the RFC has it, or milliseconds with ``ms``. What is not understood is not heeded.
    """
    wanted = most
    if found := _WAIT.search(request.headers.get("prefer", "")):
        wanted = float(found[1]) / (1000 if (found[2] or "").lower() == "ms" else 1)
    return time.perf_counter() + min(wanted, most)
