"""Undoing what the audit log tells of, by what it says under ``undo``; which is a change itself, and can be undone.

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

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from molar.findings import TickedOff, last_check, tick
from molar_retrieval.errors import MissingArtefactError
from molar_retrieval.experiments.store import ExperimentStore
from molar_serving.changes import Change
from molar_serving.endpoints.experiments import undo_start
from molar_serving.endpoints.generations import live_name, switched
from molar_serving.endpoints.items import put_back
from molar_serving.endpoints.restoring import changed_since
from molar_serving.endpoints.rules import restore_rules
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile, etag_of

if TYPE_CHECKING:
    from molar_serving.endpoint import Call
    from molar_serving.service import Service


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
