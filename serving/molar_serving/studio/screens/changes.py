"""Changes: who changed what, when, and how it ended, as the audit log has it; and undoing it.

Undoing what the audit log tells of, by what it says under ``undo``; which is a change itself, and can be undone.

====================  ========================================================================================
``kind``              what else it says
====================  ========================================================================================
``generation``        ``before``, ``after``: names of the live generation
``rules``             ``before``: the version of the rules, or null; ``after``: the etag of what was written
``items``             ``items`` with what each said ``before``; ``seq``: the last event then
``experiment``        ``experiment``: the one that began, ``stage``: the number of the stage in which; it is stopped
``finding``           ``finding``: its key, see :mod:`molar.findings`; ``before``, ``after``: who ticked it off, or null
====================  ========================================================================================
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

from molar.findings import TickedOff, last_check, tick
from molar_retrieval.errors import MissingArtefactError
from molar_retrieval.experiments.store import ExperimentStore
from molar_serving.audit import KEYS, Change, change_of, changes
from molar_serving.endpoints.experiments import undo_start
from molar_serving.endpoints.generations import live_name, switched
from molar_serving.endpoints.items import changed_since, put_back
from molar_serving.endpoints.rules import restore_rules
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile, etag_of
from molar_serving.studio.roles import Role
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_serving.endpoint import Call
    from molar_serving.service import Service

_MOST, _LINES = 50, 40  # changes of a page; lines of rules that are shown of one
_WHAT = {
    "PUT /v1/rules": "rules",
    "POST /studio/rules/save": "rules",
    "POST /studio/rules/restore": "rules",
    "POST /v1/items": "items",
    "PUT /v1/items/{item_id:path}": "item",
    "PATCH /v1/items/{item_id:path}": "item",
    "DELETE /v1/items/{item_id:path}": "withdrawn",
    "POST /v1/users/merge": "merged",
    "DELETE /v1/users/{user_id:path}": "forgotten",
    "POST /studio/forget/{user_id:path}": "forgotten",
    "POST /v1/generations/{generation}/activate": "generation",
    "POST /studio/generations/{generation}/activate": "generation",
    "POST /v1/rollback": "generation",
    "POST /studio/changes/{name}/undo": "undone",
    "molar keys add": "key_made",
    "molar keys revoke": "key_revoked",
    "POST /studio/data/findings/{name}": "finding",
    "POST /studio/experiments/start": "experiment_begun",
    "POST /studio/experiments/advance/{name:path}": "experiment_advanced",
    "POST /v1/experiments": "experiment_begun",
    "POST /v1/experiments/{experiment:path}/check": "experiment_looked_at",
    "POST /v1/experiments/{experiment:path}/advance": "experiment_advanced",
    "POST /v1/experiments/{experiment:path}/stop": "experiment_stopped",
    "POST /studio/experiments/stop/{name:path}": "experiment_stopped",
}
"""Words of ``words/changes.toml`` for what was asked for."""
_BY_KIND = {"rules": "rules", "generation": "generation", "items": "items", "finding": "finding"}
_ROLES: dict[str, Role] = {"generation": "admin", "experiment": "admin"}  # who may undo; else a merchandiser


def can_be_undone(change: Change) -> bool:
    """Whether a change was made, can be undone, and has not been."""
    return change.made and change.undo is not None and change.undone is None


def changed_again(service: "Service", undo: Mapping[str, Any]) -> bool:
    """Whether something has changed since what a change has changed, so that undoing it would undo that as well."""
    match undo["kind"]:
        case "generation":
            return bool(live_name(service) != undo["after"])
        case "rules":
            return bool(etag_of(RulesFile(service.workspace).text) != undo["after"])
        case "items":
            return bool(changed_since(service, [one["item_id"] for one in undo["items"]], undo["seq"]))
        case "experiment":
            with ExperimentStore(service.workspace) as store:
                return store.find(undo["experiment"]).stage.number != int(undo["stage"])
        case "finding":
            return bool(_ticked(service, undo["finding"]) != undo["after"])
    return False


def _ticked(service: "Service", key: str) -> dict[str, str] | None:
    """Who ticked off a finding of the last check; None: it is open, or not there any more."""
    check = last_check(service.workspace.root)
    found = next((one.ticked for one in (check.findings if check else ()) if one.key == key), None)
    return None if found is None else asdict(found)


def undone(call: "Call", change: Change) -> None:
    """Undo a change, and say so in the audit log.

    A ProblemError where it cannot be undone, or what it would need is gone.
    """
    if not can_be_undone(change) or change.undo is None:
        raise ProblemError(409, "this change cannot be undone", "see what was changed, and change it anew")
    call.audit["undoes"] = change.request
    undo = change.undo
    match undo["kind"]:
        case "generation" if undo["before"] is not None:
            switched(call, undo["before"])
        case "rules":
            restore_rules(call, undo["before"])
        case "items":
            put_back(call, undo["items"])
        case "experiment":
            undo_start(call, undo["experiment"])
        case "finding":
            before = undo["before"] and TickedOff(**undo["before"])
            try:
                former = tick(call.service.workspace, undo["finding"], before)
            except MissingArtefactError as error:
                raise ProblemError(409, error.message, error.hint) from error
            call.audit["undo"] = {**undo, "before": former and asdict(former), "after": undo["before"]}
        case _:
            raise ProblemError(409, "this change cannot be undone", "see what was changed, and change it anew")


async def listed(visit: Visit) -> Page:
    """Changes, the newest first."""
    begin = int(typed) if (typed := visit.asked("begin")).isdecimal() and len(typed) < 9 else 0
    found = await visit.do(lambda: changes(visit.service.workspace.root, begin, _MOST + 1))
    shown = await visit.do(lambda: [_shown(visit, one) for one in found[:_MOST]])
    older = begin + _MOST if len(found) > _MOST else None
    return Page("changes/changes.html.jinja", {"changes": shown, "begin": begin, "older": older})


async def undo(visit: Visit) -> Page:
    """Undo a change; where the same was changed again since, who asks has to be sure."""
    request, service = visit.path["name"], visit.service
    change = await visit.do(lambda: change_of(service.workspace.root, request))
    if change is None:
        raise ProblemError(404, "the audit log does not tell of this change", "choose one of the list")
    if change.undo is not None:
        _admit(visit, change.undo)
        if visit.sent("sure") != "yes" and await visit.do(lambda: changed_again(service, change.undo or {})):
            return Page("changes/sure.html.jinja", {"change": _shown(visit, change)}, 409)
    await asyncio.to_thread(undone, visit.call, change)
    return Page.to("/studio/changes")


def _admit(visit: Visit, fact: Mapping[str, Any]) -> None:
    wanted = _ROLES.get(fact["kind"], "merchandiser")
    if not visit.may(wanted):
        raise ProblemError(403, f"your role does not allow this: {visit.role}", f"it takes the role {wanted}")


def _shown(visit: Visit, change: Change) -> dict[str, Any]:
    """A change as the page shows it."""
    fact = change.undo or {}
    what = _WHAT.get(change.endpoint) or _BY_KIND.get(fact.get("kind", ""))
    items = [str(one["item_id"]) for one in fact.get("items", [])] or list(_items(change.facts))
    return {
        "change": change,
        "what": what,
        "name": change.facts.get("name") if change.endpoint in KEYS.values() else None,
        "items": items[:3],
        "more": max(len(items) - 3, 0),
        "values": _values(fact),
        "moved": (fact["before"], fact["after"]) if fact.get("kind") == "generation" else None,
        "lines": _lines(RulesFile(visit.service.workspace), fact) if fact.get("kind") == "rules" else [],
        "undoable": can_be_undone(change) and visit.may(_ROLES.get(fact.get("kind", ""), "merchandiser")),
    }


def _lines(file: RulesFile, fact: Mapping[str, Any]) -> list[str]:
    """The lines of the rules that went (−) and came (+); none where a version of them is not kept any more."""
    before = "" if fact["before"] is None else file.version(fact["before"])
    after = file.with_etag(fact["after"])
    if before is None or after is None:
        return []
    found = list(unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
    return ["+−"[line[0] == "-"] + line[1:] for line in found if line[0] in "+-" and line[1:].strip()][:_LINES]


def _items(facts: Mapping[str, Any]) -> list[str]:
    named = facts.get("items", [])
    return [str(facts["item_id"])] if "item_id" in facts else [str(one) for one in named] if named else []


def _values(fact: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What one item said before, by attribute."""
    items = fact.get("items", [])
    return list((items[0]["before"] or {}).items()) if len(items) == 1 else []


SCREENS = (
    Screen("GET", "/studio/changes", "viewer", listed, nav="changes"),
    Screen("POST", "/studio/changes/{name}/undo", "merchandiser", undo, changes=True),
)
