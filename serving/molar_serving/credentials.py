"""How a client says who it is, and how it is told what went wrong: as ``/v1`` has it, or another product's clients."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from molar_serving import problems
from molar_serving.problems import ProblemError

if TYPE_CHECKING:
    from molar_serving.access import Key

PREFIX = "molar_"


@dataclass(frozen=True)
class Credentials:
    """Whose key a request names, and what it proves it with.

    Attributes:
        name: The name of the key.
        proves: Whether the request bears out that it has this key; asked of an empty key where there is none of the
            name, so that it takes as long.
    """

    name: str
    proves: Callable[["Key"], bool]


@dataclass(frozen=True)
class Dialect:
    """What a kind of client sends and understands.

    Attributes:
        credentials: Finds them in a request and, where ``reads_body``, its body.
        how: What to send, for those who have sent no key.
        refusal: A problem as these clients read one; the second argument is the id of the request.
        reads_body: Whether it takes the body to find them, which is then read before anybody is admitted.
    """

    credentials: Callable[[Request, bytes], Credentials]
    how: str
    refusal: Callable[[ProblemError, str], Response]
    reads_body: bool = False


def of_key(sent: str) -> Credentials:
    """Those of somebody who sends the key itself."""
    name, _, secret = sent.strip().removeprefix(PREFIX).partition("_")
    return Credentials(name, lambda key: hmac.compare_digest(key.digest, digest(secret)))


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


def signing_token(key: str) -> str:
    """What clients that sign their requests sign with, by a key as it is told once."""
    return digest(f"signing {key.removeprefix(PREFIX).partition('_')[2]}")


_NONE = of_key("")


def _bearer(request: Request, body: bytes) -> Credentials:
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    return of_key(sent) if kind.lower() == "bearer" else _NONE


OURS = Dialect(_bearer, "send Authorization: Bearer KEY", problems.response)
