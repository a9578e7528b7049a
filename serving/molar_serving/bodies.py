"""The bodies of requests, read within their bounds."""

import asyncio

from starlette.requests import Request

from molar_serving.problems import BODY_SECONDS, ProblemError


async def read_body(request: Request, most: int) -> bytes:
    """The body; a ProblemError as soon as it is longer than it may be."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "compressed bodies are not read", "send it as it is")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise ProblemError(400, "the Content-Length is no number", "send the number of bytes")
    pieces, size = [], most + 1 if len(length) > 18 else int(length)
    if size <= most:
        size = 0
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    break
    if size > most:
        raise ProblemError(413, f"the body has more than {most:,} bytes", "send less at once")
    return b"".join(pieces)
