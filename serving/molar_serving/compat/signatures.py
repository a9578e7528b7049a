"""Who sends a request that is signed with a key's signing token: an HMAC of the address."""

import hmac
import re
import time
from typing import TYPE_CHECKING

from starlette.requests import Request

from molar_serving.credentials import Credentials

if TYPE_CHECKING:
    from molar_serving.access import Key

_SECONDS = 300  # by which the time of a signature may differ from ours
_SIGNED = re.compile(rb"(.*[?&](?:hmac|frontend)_timestamp=(\d{1,12}))&(?:hmac|frontend)_sign=([0-9a-fA-F]{40})")
PARAMETERS = ("hmac_timestamp", "hmac_sign", "frontend_timestamp", "frontend_sign")


def of_address(request: Request, prefix: str) -> Credentials:
    """Those of ``PREFIX/NAME/…?…&hmac_timestamp=…&hmac_sign=…``: the HMAC-SHA1 of all that is between both."""
    sent = request.scope["raw_path"].removeprefix(prefix.encode()) + b"?" + request.scope["query_string"]
    found = _SIGNED.fullmatch(sent)

    def proves(key: "Key") -> bool:
        if found is None or not key.signing or abs(time.time() - int(found[2])) > _SECONDS:
            return False
        right = hmac.new(key.signing.encode(), found[1], "sha1").hexdigest()
        return hmac.compare_digest(right.encode(), found[3].lower())

    return Credentials(sent[1:].partition(b"/")[0].decode("latin-1"), proves)
