"""The bodies of requests, read within their bounds."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from molar_serving.problems import BODY_SECONDS, ProblemError

BODY_CAME = "body_came"
"""In the scope of a request: tells whether all of its body has come, where a connection knows that."""


async def read_body(request: Request, most: int) -> bytes:
    """The body; a ProblemError as soon as it is longer than it may be."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "compressed bodies are not read", "send it as it is")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise ProblemError(400, "the Content-Length is no number", "send the number of bytes")
    body, size = b"", most + 1 if len(length) > 18 else int(length)
    if size <= most:
        came = request.scope.get(BODY_CAME)
        body = await (_here(request) if came is not None and came() else _coming(request, most))
        size = len(body)
    if size > most:
        raise ProblemError(413, f"the body has more than {most:,} bytes", "send less at once")
    return body


async def _here(request: Request) -> bytes:
    """A body that has come, for which no clock is needed."""
    message = await request.receive()
    if message["type"] != "http.request":
        raise ClientDisconnect
    found: bytes = message["body"]
    return found


async def _coming(request: Request, most: int) -> bytes:
    """A body that may be on its way; no more than a piece beyond what it may have."""
    pieces, size = [], 0
    async with asyncio.timeout(BODY_SECONDS):
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
    return b"".join(pieces)
