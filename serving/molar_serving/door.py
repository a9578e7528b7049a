"""What stands before everything else: in an overload it turns requests away for a tenth of what reading them costs."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from molar_serving.endpoint import Endpoint, encode
from molar_serving.problems import MEDIA_TYPE, problem
from molar_serving.working import TOO_MUCH, Working


class Door:
    """An application that asks another one, unless that one has more to answer than it can.

    Args:
        app: The application behind it.
        answers: What computes its answers.
        endpoints: What can be asked; requests for those of the scope ``answer`` may be turned away.
    """

    def __init__(self, app: ASGIApp, answers: Working, endpoints: Sequence[Endpoint]) -> None:
        self._app, self._answers = app, answers
        self._paths = tuple({one.path.partition("{")[0] for one in endpoints if one.scope == "answer"})
        body = encode(problem(503, *TOO_MUCH))
        known = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "retry-after": "1"}
        headers = [(name.encode(), value.encode()) for name, value in known.items()]
        self._start = {"type": "http.response.start", "status": 503, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        closed = self._answers.overloaded and scope["type"] == "http" and scope["path"].startswith(self._paths)
        if not closed or not self._answers.full():
            await self._app(scope, receive, send)
            return
        await send({**self._start})
        await send(self._body)
