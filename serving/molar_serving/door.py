"""What stands before everything else: in an overload it turns requests away for a tenth of what reading them costs.

It shows requests for a path that has no names in braces to their endpoint; the others, which are few, have the way
through a router's routes and its handling of errors.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from molar_serving.endpoint import Endpoint, encode
from molar_serving.problems import MEDIA_TYPE, problem
from molar_serving.working import TOO_MUCH, Working

Answering: TypeAlias = Callable[[Request], Awaitable[Response]]
Straight: TypeAlias = Mapping[tuple[str, str], Answering]


class Door:
    """An application that asks another one, unless that one has more to answer than it can.

    Args:
        app: The application behind it.
        answers: What computes its answers.
        endpoints: What can be asked; requests for those of the scope ``answer`` may be turned away.
        straight: What answers, by method and path; for all others the application is asked.
    """

    def __init__(self, app: ASGIApp, answers: Working, endpoints: Sequence[Endpoint], straight: Straight) -> None:
        self._app, self._answers, self._straight = app, answers, straight
        self._paths = tuple({one.path.partition("{")[0] for one in endpoints if one.scope == "answer"})
        body = encode(problem(503, *TOO_MUCH))
        known = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "retry-after": "1"}
        headers = [(name.encode(), value.encode()) for name, value in known.items()]
        self._start = {"type": "http.response.start", "status": 503, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._answers.overloaded and scope["path"].startswith(self._paths) and self._answers.full():
            await send({**self._start})
            await send(self._body)
        elif (answering := self._straight.get((scope["method"], scope["path"]))) is not None:
            await (await answering(Request(scope, receive)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)
