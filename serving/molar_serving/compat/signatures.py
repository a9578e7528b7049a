"""Who sends a request that is signed with a key's signing token: an HMAC of its address, or of all of it."""

import hmac
import re
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from starlette.requests import Request

from molar_serving.auth import Credentials

if TYPE_CHECKING:
    from molar_serving.auth import Key

_SECONDS = 300  # by which the time of a signature may differ from ours
_SIGNED = re.compile(rb"(.*[?&](?:hmac|frontend)_timestamp=(\d{1,12}))&(?:hmac|frontend)_sign=([0-9a-fA-F]{40})")
PARAMETERS = ("hmac_timestamp", "hmac_sign", "frontend_timestamp", "frontend_sign")
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    _ALGORITHM + r" Credential=([A-Za-z0-9-]{1,200})/((\d{8})/[^/,\s]{1,64}/[^/,\s]{1,64}/aws4_request),"
    r"\s*SignedHeaders=([a-z0-9;-]{1,1000}),\s*Signature=([0-9a-f]{64})"
)
_SIGN_AT_LEAST = {"host", "x-amz-date"}


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


def of_request(request: Request, body: bytes) -> Credentials:
    """Those of a request signed by version 4 of Amazon's scheme, for any region and service, without parameters.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        return Credentials("", lambda key: False)
    name, scope, day, names, signature = found.groups()
    moment = request.headers.get("x-amz-date", "")

    def proves(key: "Key") -> bool:
        signed = names.split(";")
        if not key.signing or not set(signed) >= _SIGN_AT_LEAST or not moment.startswith(day) or not _is_now(moment):
            return False
        canonical = _canonical(request, signed, names, body)
        to_sign = "\n".join([_ALGORITHM, moment, scope, sha256(canonical.encode()).hexdigest()])
        secret = f"AWS4{key.signing}".encode()
        for part in (*scope.split("/"), to_sign):
            secret = hmac.new(secret, part.encode(), sha256).digest()
        return hmac.compare_digest(secret.hex(), signature)

    return Credentials(name, proves)


def _canonical(request: Request, signed: list[str], names: str, body: bytes) -> str:
    """What is signed; a parameter in the address would make it another request."""
    headers = [f"{name}:{','.join(' '.join(one.split()) for one in request.headers.getlist(name))}" for name in signed]
    path = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return "\n".join([request.method, path, query, *headers, "", names, sha256(body).hexdigest()])


def _is_now(moment: str) -> bool:
    try:
        signed = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(time.time() - signed.timestamp()) <= _SECONDS
