"""Evaluating: a workspace up to content vectors, a suite with what one call changes, a report on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar_eval.evaluate import Evaluation
    from molar_eval.suite import Suite
    from molar_retrieval.config import MolarSettings
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace import Workspace


def prepared(workspace: "Workspace", settings: "MolarSettings", progress: "Progress", where: str | None = None) -> None:
    """Bring the workspace's catalogue, log and content vectors to the present.

    Args:
        workspace: Of the catalogue.
        settings: Of this run.
        progress: Told of the work.
        where: Only items that fulfil this condition; None: those that the workspace has now.
    """
    from molar_retrieval.catalog import condition_of, prepare_catalogue
    from molar_retrieval.embedding import embed
    from molar_retrieval.interactions import prepare_interactions

    part = condition_of(workspace) if where is None else where
    prepare_catalogue(workspace.catalogue, workspace, progress, where=part)
    prepare_interactions(workspace.catalogue, workspace, progress)
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
    """A suite by its name or file, with what one call changes.

    Raises:
        SettingsError: If there is no such suite, or a value means nothing.
    """
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


def evaluate(
    workspace: "Workspace",
    suite: "Suite",
    settings: "MolarSettings",
    progress: "Progress",
    *,
    out: Path | None = None,
    command: str = "",
    memory: int = 256 << 20,
    tell: Callable[[str], None] | None = None,
) -> "Evaluation":
    """Run a suite and write its report.

    Args:
        workspace: Prepared, see :func:`prepared`.
        suite: What to evaluate.
        settings: Of this run.
        progress: Told of the work.
        out: Folder of the run; None: a new one in the workspace.
        command: What the report names as its origin.
        memory: Bytes for scores in ranking.
        tell: Told of each finished model; None: a note of the progress.
    """
    from molar_eval.evaluate import Evaluator
    from molar_eval.report.write import write_report
    from molar_retrieval.native import keep_freed_memory

    keep_freed_memory()
    evaluator = Evaluator(
        workspace, suite, settings, folder=out, command=command, memory=memory, progress=progress,
        tell=tell or progress.note,
    )  # fmt: skip
    result = evaluator.run()
    write_report(result.folder, result.report, result.examples, workspace.catalogue)
    return result
