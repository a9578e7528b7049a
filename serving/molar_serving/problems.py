"""What went wrong, as RFC 9457 tells it: a problem with its status, our remedy and the field that it concerns."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import msgspec.inspect
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from molar_retrieval.errors import (
    BackendError,
    DiskError,
    FullDiskError,
    MissingArtefactError,
    MolarError,
    RequestError,
    StaleArtefactError,
    redacted,
    suggestion,
)
from molar_retrieval.workspace import files

_log = logging.getLogger("molar.serving")
BODY_SECONDS = 10.0
"""That a body may take to come."""
_LONGEST = 1_000  # characters of a detail, a remedy, a field
MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "The request cannot be read",
    401: "Who asks is not known",
    403: "The key does not allow this",
    404: "There is no such thing",
    405: "This is not done here",
    408: "The request took too long to come",
    409: "This contradicts what is there",
    410: "It is no longer there",
    412: "It was changed meanwhile",
    413: "The request is too large",
    415: "The body is of a kind that is not read here",
    422: "The request cannot be answered",
    429: "Too many requests",
    500: "Something is wrong here",
    501: "This is not supported",
    503: "Not available now",
    507: "The disk is full, or cannot be written",
}


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A problem as it is sent.

    Attributes:
        type: What kind of problem it is, as a URI.
        title: The same in words.
        status: The HTTP status.
        detail: What is wrong with what.
        remedy: What to do.
        field: The field of the body or the parameter that it concerns.
        instance: The request, as in its header ``X-Request-Id``.
    """

    type: str
    title: str
    status: int
    detail: str
    remedy: str = ""
    field: str | None = None
    instance: str | None = None


class ProblemError(Exception):
    """A request that is not answered, and why; ``headers`` go with it."""

    def __init__(
        self,
        status: int,
        detail: str,
        remedy: str = "",
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.remedy, self.field = status, detail, remedy, field
        self.headers = headers or {}


def problem(
    status: int, detail: str, remedy: str = "", field: str | None = None, instance: str | None = None
) -> Problem:
    """A problem of a status, without secrets, however long what it tells of is."""
    detail, remedy = (_clean(text) for text in (detail, remedy))
    field = None if field is None else _clean(field)
    title = _TITLES.get(status, "The request is not answered")
    kind = f"urn:molar:problem:{status}"
    return Problem(type=kind, title=title, status=status, detail=detail, remedy=remedy, field=field, instance=instance)


def _clean(text: str) -> str:
    return redacted(text[: 4 * _LONGEST])[:_LONGEST]  # in this order: half a secret would not be known as one


def response(error: ProblemError, request_id: str) -> Response:
    """The problem as an answer."""
    return Response(msgspec.json.encode(told(error, request_id)), error.status, error.headers, MEDIA_TYPE)


def told(error: ProblemError, request_id: str) -> Problem:
    """The problem as it is told."""
    return problem(error.status, error.detail, error.remedy, error.field, request_id)


def of_error(error: MolarError) -> ProblemError:
    """The problem that an error of the library is to somebody who asks over HTTP."""
    if isinstance(error, DiskError):
        _log.error("%s (%s)", error.message, error.hint)  # it names places of this machine
        remedy = "send it again later; the server's log says what is wrong"
        if isinstance(error, FullDiskError):
            return ProblemError(507, "there is no room to write it", remedy)
        return ProblemError(503, "the disk cannot be written by the server", remedy, headers={"Retry-After": "5"})
    if isinstance(error, RequestError):
        return ProblemError(422, error.message, error.hint)
    if isinstance(error, MissingArtefactError | StaleArtefactError | BackendError):
        return ProblemError(503, error.message, error.hint, headers={"Retry-After": "5"})
    _log.error("%s (%s)", error.message, error.hint)  # it is for who runs the server
    return unexpected()


def unexpected() -> ProblemError:
    """The problem of what should not happen; what it was is in the server's log."""
    return ProblemError(500, "something unexpected happened", "tell who runs the server the id of the request")


def of_any(error: BaseException, request_id: str) -> ProblemError:
    """The problem that whatever went wrong is to who asked; what nobody expected goes into the server's log."""
    if isinstance(error, ProblemError):
        return error
    if known := error if isinstance(error, MolarError) else files.disk_error(error):
        return of_error(known)
    if isinstance(error, TimeoutError | ClientDisconnect):
        return ProblemError(408, f"the body did not come within {BODY_SECONDS:.0f} s", "send it in one go")
    if isinstance(error, RecursionError):
        return ProblemError(400, "the body is nested too deeply", "send fewer levels")
    _log.error("request %s failed", request_id, exc_info=error)
    return unexpected()


def read_json(body: bytes, decode: Callable[[bytes], Any] = msgspec.json.decode, wanted: Any = None) -> Any:
    """What a body holds; a :class:`ProblemError` where it is no JSON, or not of the type ``wanted``."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unreadable(error, wanted) from error


def unreadable(error: Exception, wanted: Any = None) -> ProblemError:
    """The problem of a body or of parameters that are not of the type ``wanted``."""
    if not isinstance(error, msgspec.ValidationError):
        return ProblemError(400, f"the body is no JSON: {error}", "send JSON, as UTF-8")
    message, _, path = str(error).partition(" - at ")
    field = path.strip("`").removeprefix("$").lstrip(".") or None
    remedy = "correct it; /openapi.json tells what is taken"
    if unknown := re.search(r"unknown field `(.*)`", message):
        field = unknown[1] if field is None else f"{field}.{unknown[1]}"
        remedy = suggestion(unknown[1], getattr(wanted, "__struct_fields__", ()), "leave it out")
    elif field is not None and (given := re.search(r"enum value '(.*)'", message)):
        kinds = [kind for one in fields_of(wanted) if one.encode_name == field for kind in types_of(one.type)]
        words = [str(word) for kind in kinds for word in getattr(kind, "values", ())]
        remedy = suggestion(given[1], words, f"give one of {', '.join(words)}") if words else remedy
    return ProblemError(422, message, remedy, field=field)


def fields_of(wanted: Any) -> tuple[msgspec.inspect.Field, ...]:
    """The fields of a type; none where it is no struct."""
    kind = None if wanted is None else msgspec.inspect.type_info(wanted)
    return kind.fields if isinstance(kind, msgspec.inspect.StructType) else ()


def types_of(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """The types that a field may have, without descriptions."""
    if isinstance(kind, msgspec.inspect.Metadata):
        yield from types_of(kind.type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from types_of(one)
    else:
        yield kind
