"""The shop's rules: read, replaced, and tried on people's lists before they hold."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct, field

from molar_retrieval import limits
from molar_retrieval.errors import DataError, DiskError, SettingsError
from molar_retrieval.ranking.query import Id
from molar_retrieval.workspace.config_files import parse_toml, toml_of
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.endpoints.generations import ListsCompared, lists_compared
from molar_serving.overload import alone
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile, etag_of
from molar_serving.wire import Strict

if TYPE_CHECKING:
    from molar_indexes.comparison import RulesPreview
    from molar_serving.service import Service

PREVIEWED = 500
"""People whose lists a preview compares."""
_Rules = Annotated[list[dict[str, Any]], Meta(max_length=limits.RULES)]
_MOST = 4 << 20  # bytes of a body
_NAME = "rules.toml"


class RulesBody(Strict):
    """Rules as the text of a ``rules.toml``, or as its tables."""

    toml: str | None = None
    rules: _Rules | None = None


class PreviewBody(RulesBody):
    """Rules, and whose lists are to be compared: some users, or a sample; ``field`` tells exposure by its values."""

    users: Annotated[list[Id], Meta(max_length=PREVIEWED)] = field(default_factory=list)
    sample: Annotated[int, Meta(ge=1, le=PREVIEWED)] = 200
    field: Annotated[str, Meta(min_length=1, max_length=limits.ID)] | None = None


class RulesParameters(Strict):
    """A former version of the rules, by its name; the present one without."""

    version: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class RulesAnswer(Struct, kw_only=True):
    """Rules.

    Attributes:
        toml: The text of the file.
        rules: Its tables.
        etag: What changes with it, as in the header ``ETag``; a PUT with ``If-Match`` replaces no other rules.
        versions: Names of former versions, the newest first.
        warnings: What is odd about the rules.
    """

    toml: str
    rules: list[dict[str, Any]]
    etag: str
    versions: list[str]
    warnings: list[str]


class ExposureByValue(Struct, kw_only=True):
    """A value of a field, and the share of all places that items with it have, before and after."""

    value: str
    before: float
    after: float


class NoteOfLists(Struct, kw_only=True):
    """What answers would say, and how many would."""

    note: str
    lists: int


class PreviewAnswer(Struct, kw_only=True):
    """What rules would change.

    Attributes:
        generation: By which the lists are made.
        lists: How they differ from those by the rules of now.
        short: Lists that would be shorter than they are.
        exposure: By the values of the field, those that change most first; at most 20.
        notes: What answers would say of rules that they cannot keep.
        warnings: What is odd about the rules.
        seconds: What it took.
    """

    generation: str
    lists: ListsCompared
    short: int
    exposure: list[ExposureByValue]
    notes: list[NoteOfLists]
    warnings: list[str]
    seconds: float


async def rules(call: Call) -> Reply:
    """The rules that hold, or a former version of them."""
    return await asyncio.to_thread(_read, call.service, call.query)


async def replace_rules(call: Call) -> Reply:
    """Replace the rules, if they are right for what is live; the next answer heeds them. The former ones are kept."""
    return await asyncio.to_thread(_replaced, call)


async def preview_rules(call: Call) -> Reply:
    """What rules would change in the lists of a sample of people, or of some; nothing is changed."""
    asked: PreviewBody = call.body
    return Reply(await alone(lambda: preview(call.service, asked)))


def _read(service: "Service", asked: RulesParameters) -> Reply:
    file = RulesFile(service.workspace)
    text = file.text if asked.version is None else file.version(asked.version)
    if text is None:
        raise ProblemError(404, "there is no such version of the rules", "GET /v1/rules names them", field="version")
    return _answered(file, text, [])


def _answered(file: RulesFile, text: str, warnings: list[str]) -> Reply:
    try:
        tables = parse_toml(text, _NAME).get("rule", [])
    except SettingsError as error:  # somebody wrote it by hand
        tables, warnings = [], [*warnings, error.message]
    etag = etag_of(text)
    answer = RulesAnswer(toml=text, rules=tables, etag=etag, versions=file.versions(), warnings=warnings)
    return Reply(answer, headers={"ETag": f'"{etag}"'})


def _replaced(call: Call) -> Reply:
    file, wanted = RulesFile(call.service.workspace), call.request.headers.get("if-match") or "*"
    text, warnings = checked_rules(call.service, call.body)
    known = [one.strip().removeprefix("W/").strip('"') for one in wanted.split(",")]
    write_rules(call, file, text, (lambda _: None) if "*" in known else unchanged(known))
    return _answered(file, text, warnings)


def unchanged(known: Collection[str]) -> Callable[[str], None]:
    """Raises a ProblemError where the rules that are there are none of those known, by their ``etag``."""

    def allowed(present: str) -> None:
        if etag_of(present) not in known:
            raise ProblemError(412, "the rules were changed meanwhile", "GET /v1/rules, and change what is there now")

    return allowed


def write_rules(call: Call, file: RulesFile, text: str, allowed: Callable[[str], None]) -> None:
    """Write rules that were checked, in the name of the call's key, and say in the audit log what would undo it."""
    try:
        former = file.replace(text, allowed, call.key.name)
    except DiskError:
        raise
    except DataError as error:  # somebody else is at it
        raise ProblemError(409, error.message, error.hint) from error
    call.audit["etag"] = etag_of(text)
    if former is not None:
        call.audit["undo"] = {"kind": "rules", "before": former[1], "after": etag_of(text)}


def restore_rules(call: Call, version: str | None) -> None:
    """Write a former version of the rules again, or none; a ProblemError where it is gone, or wrong by now."""
    file = RulesFile(call.service.workspace)
    text = "" if version is None else file.version(version)
    if text is None:
        raise ProblemError(410, "this version of the rules is not kept any more", "write them anew")
    checked_rules(call.service, RulesBody(toml=text))
    write_rules(call, file, text, lambda _: None)


def checked_rules(service: "Service", body: RulesBody) -> tuple[str, list[str]]:
    """The text of rules and what is odd about them; a ProblemError where they are wrong."""
    from molar_indexes.comparison import checked

    text, values = _values(body)
    try:
        with service.recommender.answering() as answerer:
            return text, list(checked(answerer.generation, values))
    except SettingsError as error:
        raise ProblemError(422, error.message, error.hint, field="rules") from error


def _values(body: RulesBody) -> tuple[str, Mapping[str, Any]]:
    """The text of rules, and what it says."""
    if (body.toml is None) == (body.rules is None):
        raise ProblemError(422, "rules come as text or as tables", "send one of toml and rules", field="rules")
    try:
        text = toml_of("rule", body.rules or []) if body.toml is None else body.toml
        return text, parse_toml(text, _NAME)
    except SettingsError as error:
        raise ProblemError(422, error.message, error.hint, field="rules") from error


def preview(service: "Service", asked: PreviewBody) -> PreviewAnswer:
    """What other rules would change in people's lists; a ProblemError where they, or those of now, are wrong."""
    from molar_indexes.comparison import previewed

    began = time.perf_counter()
    _, values = _values(asked)
    checked_rules(service, asked)
    file = RulesFile(service.workspace)
    with service.recommender.answering() as answerer:
        generation = answerer.generation.name
        try:
            found = previewed(
                answerer,
                file.path if file.path.exists() else None,
                values,
                people=asked.sample,
                users=[str(user) for user in asked.users],
                field=asked.field,
                known=service.previews,
            )
        except SettingsError as error:
            raise ProblemError(409, f"the rules of now are wrong: {error.message}", error.hint) from error
    return _told(generation, found, time.perf_counter() - began)


def _told(generation: str, found: "RulesPreview", seconds: float) -> PreviewAnswer:
    return PreviewAnswer(
        generation=generation,
        lists=lists_compared(found.lists),
        short=found.short,
        exposure=[
            ExposureByValue(value=one.value, before=round(one.before, 4), after=round(one.after, 4))
            for one in found.exposure
        ],
        notes=[NoteOfLists(note=note, lists=count) for note, count in found.notes],
        warnings=list(found.warnings),
        seconds=round(seconds, 3),
    )


ENDPOINTS = (
    Endpoint("GET", "/v1/rules", "rules", "The rules that hold", rules, query=RulesParameters, reply=RulesAnswer),
    Endpoint(
        "PUT",
        "/v1/rules",
        "rules",
        "Replace the rules",
        replace_rules,
        body=RulesBody,
        reply=RulesAnswer,
        most=_MOST,
        changes=True,
    ),
    Endpoint(
        "POST",
        "/v1/rules/preview",
        "rules",
        "What rules would change in people's lists",
        preview_rules,
        body=PreviewBody,
        reply=PreviewAnswer,
        most=_MOST,
    ),
)
