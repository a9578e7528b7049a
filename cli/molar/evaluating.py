"""Evaluating: a workspace up to content vectors, a suite with what one call changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar_eval.suite import Suite
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import MolarSettings


def prepared(workspace: "Workspace", settings: "MolarSettings", progress: "Progress", where: str | None = None) -> None:
    """Bring the workspace's catalogue, log and content vectors to the present.

    ``where``: only items that fulfil this condition; None: those that the workspace has now.
    """
    from molar.aligning import prepare_log
    from molar_retrieval.data.prepare import condition_of, prepare_catalogue
    from molar_retrieval.embedding import embed

    condition = condition_of(workspace) if where is None else where
    prepare_catalogue(workspace.catalogue, workspace, progress, where=condition)
    prepare_log(workspace, settings, progress)
    embed(workspace, settings.embed, progress=progress)


def chosen_suite(
    name: str,
    *,
    models: Sequence[str] = (),
    slices: Sequence[str] = (),
    seeds: int | None = None,
    category: str | None = None,
    ties: str | None = None,
    seen: str | None = None,
) -> "Suite":
    """A suite by its name or file, with what a call changes; one without meaning raises :class:`SettingsError`."""
    from molar_eval.suite import load

    suite = load(name, {"seeds": seeds, "category": category})
    splits = suite.splits
    if seen is not None:
        if seen not in ("hide", "show", "both"):
            raise SettingsError(f"seen = {seen!r} means nothing", "use hide, show or both")
        shown = ("hide", "show") if seen == "both" else (seen,)
        splits = tuple(plan.model_copy(update={"seen": shown}) for plan in splits)
    if ties is not None:
        splits = tuple(
            plan if plan.split == "last day" else plan.model_copy(update={"options": {**plan.options, "ties": ties}})
            for plan in splits
        )
    if models:
        splits = tuple(plan.model_copy(update={"models": ()}) for plan in splits)
    return suite.model_copy(
        update={"splits": splits, "models": tuple(models or suite.models), "columns": (*suite.columns, *slices)}
    )
