"""What a screen of the studio is: a method, a path, who may, and the function that answers a visit with a page."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from starlette.datastructures import FormData, UploadFile

from molar_serving.endpoint import Call
from molar_serving.problems import ProblemError
from molar_serving.studio.roles import Role, allows

if TYPE_CHECKING:
    from molar_serving.service import Service
    from molar_serving.studio.language import Language

Done = TypeVar("Done")
FORM = 1 << 20  # bytes of a form


@dataclass(frozen=True)
class Page:
    """What is answered.

    Attributes:
        template: The template, in ``templates/``; empty: there is none, as of a redirect.
        shown: What it shows.
        status: The status.
        headers: That go with it.
        content: Bytes that are sent as they are instead of a template.
        media_type: Of the content.
    """

    template: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    media_type: str = "text/html"

    @classmethod
    def to(cls, address: str) -> "Page":
        """Another page of the studio, as after a change."""
        return cls(status=303, headers={"Location": address})


@dataclass(slots=True)
class Visit:
    """Somebody's request for a screen.

    Attributes:
        call: The request, as endpoints have it: its service, its key, what the audit log is to tell.
        role: What who asks may do.
        language: In which the page speaks.
        token: What forms of the page carry.
        form: What was sent with a form.
    """

    call: Call
    role: Role
    language: "Language"
    token: str
    form: FormData = field(default_factory=FormData)

    @property
    def service(self) -> "Service":
        """What the shop is served from."""
        return self.call.service

    @property
    def path(self) -> Mapping[str, str]:
        """The parts of the path that have a name."""
        return self.call.path

    @property
    def audit(self) -> dict[str, Any]:
        """What the audit log is to tell of a change."""
        return self.call.audit

    @property
    def fragment(self) -> bool:
        """Whether a part of a page is asked for by the page, not by somebody who opens it."""
        return "hx-request" in self.call.request.headers

    def may(self, role: Role) -> bool:
        """Whether who asks may do what this role may."""
        return allows(self.role, role)

    def asked(self, name: str, default: str = "") -> str:
        """A parameter of the address; the first one where it is named twice."""
        return next(iter(self.call.request.query_params.getlist(name)), default)

    def sent(self, name: str, default: str = "") -> str:
        """A field of the form."""
        return next(iter(self.all_sent(name)), default)

    def all_sent(self, name: str) -> Sequence[str]:
        """All fields of the form that have this name."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def need(self, *names: str) -> None:
        """Raise a ProblemError unless the form has one of these fields, which may be empty."""
        if not any(name in self.form for name in names):
            detail, remedy = f"the form has no field {' or '.join(names)}", "open the page again, and send it"
            raise ProblemError(422, detail, remedy, field=names[0])

    def file(self, name: str) -> UploadFile | None:
        """A file of the form; None where none was chosen."""
        found = self.form.get(name)
        return found if isinstance(found, UploadFile) and found.filename else None

    async def do(self, work: Callable[[], Done]) -> Done:
        """The outcome of a function that takes a while, in one of the studio's threads."""
        return await self.service.studio.do(work)


@dataclass(frozen=True)
class Screen:
    """One thing that can be asked of the studio.

    Attributes:
        method: The HTTP method.
        path: The path, with its names in braces.
        role: Who may; None: everybody, before they have signed in.
        answer: Answers a visit.
        nav: Where it stands in the navigation, a word of ``words/nav.toml``; empty: nowhere.
        changes: Whether it changes something, and so goes into the audit log.
        most: Bytes of its form.
        fields: What its form must have, empty or not.
    """

    method: Literal["GET", "POST"]
    path: str
    role: Role | None
    answer: Callable[[Visit], Awaitable[Page]]
    nav: str = ""
    changes: bool = False
    most: int = FORM
    fields: Sequence[str] = ()

    @property
    def counted(self) -> bool:
        """Every change has a line in the audit log."""
        return False
