"""Aligning: the log prepared, the network trained, a generation published, and pushed where a server is named."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molar_indexes.server.push import PushReport
    from molar_retrieval.alignment.align import AlignReport
    from molar_retrieval.alignment.training import EpochScore
    from molar_retrieval.config import MolarSettings
    from molar_retrieval.interactions.prepare import Choice
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace import Workspace


@dataclass(frozen=True)
class Aligned:
    """What :meth:`molar.Shop.align` did.

    Attributes:
        report: Of the training.
        generation: Name of the generation that was published.
        staged: Whether it is not live: :meth:`molar.Shop.rollback` makes it so by its name.
        pushed: What went to a server, or None.
        exploration: How new items are tried, and what that costs, see :mod:`molar_retrieval.alignment.exploring`; None:
            they are not.
    """

    report: "AlignReport"
    generation: str
    pushed: "PushReport | None"
    exploration: dict[str, Any] | None = None
    staged: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        served = {} if self.pushed is None else {"pushed": self.pushed.to_dict()}
        return {
            **self.report.to_dict(),
            "generation": self.generation,
            "exploration": self.exploration,
            "staged": self.staged,
            **served,
        }


def align(
    workspace: "Workspace",
    settings: "MolarSettings",
    progress: "Progress",
    *,
    restart: bool = False,
    where: str | None = None,
    on_epoch: "Callable[[EpochScore], None] | None" = None,
) -> Aligned | None:
    """Train and publish; of several processes the first one does all but the training, and the others return None.

    ``on_epoch`` is told of each epoch; None: a note of the progress.
    """
    from molar_indexes.assemble import publish_generation
    from molar_retrieval.alignment.align import align as train
    from molar_retrieval.alignment.align import help_to_align
    from molar_retrieval.alignment.derive import derive
    from molar_retrieval.catalog import prepare_catalogue
    from molar_retrieval.embedding import embed
    from molar_retrieval.native import keep_freed_memory
    from molar_retrieval.pinned import pin
    from molar_retrieval.training.processes import Processes

    keep_freed_memory()
    processes = Processes.of_launcher()
    if not processes.first:
        help_to_align(workspace, processes)
        return None
    if where is not None:
        prepare_catalogue(workspace.catalogue, workspace, progress, where=where)
        embed(workspace, settings.embed, progress=progress)
    prepare_log(workspace, settings, progress, choose=True)
    with pin(workspace, "catalogue", "content", "interactions", work="molar align") as read:  # one state, to the end
        report = train(
            read,
            settings,
            restart=restart,
            processes=processes,
            progress=progress,
            on_epoch=on_epoch or (lambda score: progress.note(epoch_line(score))),
        )
        derived = derive(read, progress)  # what ships counts the interactions, too, that validation had held out
        report = replace(report, folder=derived.folder, fingerprint=derived.fingerprint)
        generation = publish_generation(read, settings.index, progress, newcomers=settings.newcomers)
    name, exploration = generation.name, generation.manifest.facts["exploration"]
    generation.close()
    pushed, staged = None, name != workspace["generations"].require()[0].name
    if settings.index.url is not None and settings.index.activate:
        from molar_indexes.server.push import push

        pushed = push(workspace, settings.index, generation=name, progress=progress)
    return Aligned(report, name, pushed, exploration, staged)


def prepare_log(
    workspace: "Workspace", settings: "MolarSettings", progress: "Progress", *, choose: bool = False
) -> None:
    """Bring the workspace's interactions to the present: the file and the events of kinds that count.

    With ``choose``, validation chooses these kinds where the settings leave it to that, and events came since.
    """
    from molar_retrieval.events.kinds import Kinds
    from molar_retrieval.interactions import prepare_interactions

    choice: Choice | None = None
    if choose:
        from molar_retrieval.alignment.kinds import choose_kinds

        choice = partial(choose_kinds, settings=settings.align, split=settings.split, progress=progress)
    kinds = Kinds.of(settings.events.weights)
    keep_days = settings.privacy.keep_days
    prepare_interactions(workspace.catalogue, workspace, progress, kinds=kinds, choose=choice, keep_days=keep_days)


def epoch_line(score: "EpochScore") -> str:
    """An epoch in one line."""
    towers = ", ".join(f"{name} {ndcg:.4f}" for name, ndcg in score.towers.items())
    return (
        f"epoch {score.epoch:>3}  loss {score.loss:.3f}  validation NDCG@10 {score.ndcg:.4f}"
        f"  ({towers})  {score.seconds:.0f} s"
    )
