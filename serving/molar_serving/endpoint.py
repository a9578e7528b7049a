"""What an endpoint is: a method, a path, who may ask, what comes in and what goes out, and the function that answers.

The table of all endpoints is the only place that says so: routes and the OpenAPI page are made from it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from molar_serving.asking import ExperimentalList
from molar_serving.auth import OURS, Dialect, Key, Scope
from molar_serving.wire import encode

if TYPE_CHECKING:
    from molar_serving.service import Service

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
BODY = 1 << 20  # bytes of a body


@dataclass(slots=True)
class Call:
    """One request on its way through an endpoint.

    Attributes:
        service: What answers.
        request: The request; its body is read already.
        key: Who asks.
        body: The body as the endpoint's type, or its bytes where the endpoint names none.
        query: The parameters of the address as the endpoint's type, or None.
        deadline: By when there must be an answer, on the clock of ``time.perf_counter``; None: whenever.
        audit: What the audit log is to tell of a change beside who asked for what: numbers, names of things. Ids of
            people go into a list ``people``, of which it tells pseudonyms.
        within: The list, while it is made within experiments that run; None: none do.
    """

    service: "Service"
    request: Request
    key: Key
    body: Any = None
    query: Any = None
    deadline: float | None = None
    audit: dict[str, Any] = field(default_factory=dict)
    within: ExperimentalList | None = None

    @property
    def request_id(self) -> str:
        """The id of the request, as in its answer's header ``X-Request-Id``."""
        return str(self.request.scope["request_id"])

    @property
    def path(self) -> Mapping[str, str]:
        """The parts of the path that have a name."""
        return self.request.path_params


@dataclass(frozen=True)
class Reply:
    """An answer: a value of the endpoint's type, maybe ``encoded`` already, or bytes that are sent as they are."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    encoded: bytes | None = None

    def response(self) -> Response:
        """The same for Starlette."""
        if isinstance(self.value, Response):
            return self.value
        content = self.encoded if self.encoded is not None else self.value
        content = content if isinstance(content, bytes) else encode(content)
        return Response(content, self.status, dict(self.headers), "application/json")


@dataclass(frozen=True)
class Endpoint:
    """One thing that can be asked.

    Attributes:
        method: The HTTP method.
        path: The path, with its names in braces.
        scope: What a key must allow; None: nobody needs one.
        summary: In one sentence.
        answer: Answers a call.
        body: Type of the body; None: there is none, or it is read as bytes.
        query: Type of the parameters in the address; None: there are none.
        reply: Type of the answer; None: it has none that OpenAPI describes.
        media: Kinds of bodies that are read where ``body`` is None; empty: there is none.
        most: Bytes of a body.
        changes: Whether it changes something, and so goes into the audit log.
        mixed: Whether it does whatever the key allows, and so goes into the audit log as what is no event does.
        dialect: How its clients say who they are, and are told what went wrong.
    """

    method: Method
    path: str
    scope: Scope | None
    summary: str
    answer: Callable[[Call], Awaitable[Reply]]
    body: Any = None
    query: Any = None
    reply: Any = None
    media: tuple[str, ...] = ()
    most: int = BODY
    changes: bool = False
    mixed: bool = False
    dialect: Dialect = OURS

    @property
    def counted(self) -> bool:
        """Whether the audit log counts its requests together, as events come by the thousand."""
        return self.scope == "events" and not self.mixed
