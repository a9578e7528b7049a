"""Traces that pass through here, as W3C has them (https://www.w3.org/TR/trace-context/): ``traceparent`` is passed on.

The span of a request is the beginning of its ``X-Request-Id``. A header that is wrong, or comes twice, is not heeded,
as the recommendation says; ``tracestate`` is for whoever writes spans.
"""

import re
from collections.abc import Sequence

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")


def passed_on(sent: Sequence[str], request_id: str) -> tuple[str, str] | None:
    """The id of a trace, and its ``traceparent`` with the span of a request in it; None where there is no trace.

    Args:
        sent: The headers ``traceparent`` of the request.
        request_id: Its id, hexadecimal digits.
    """
    found = _FORM.fullmatch(sent[0]) if len(sent) == 1 else None
    if found is None or (found[1] == "00" and found[4] is not None):
        return None
    sampled = int(found[3], 16) & 1  # what else is set is not known to version 00
    return found[2], f"00-{found[2]}-{request_id[:16]}-{sampled:02x}"
