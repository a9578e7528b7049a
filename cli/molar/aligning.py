"""Aligning: the log prepared, the network trained, a generation published, and pushed where a server is named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from molar.choosing import refuse
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.artefacts import PRIVATE, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from molar_indexes.server.push import PushReport
    from molar_retrieval.data.prepare_interactions import Choice
    from molar_retrieval.models.alignment import AlignReport
    from molar_retrieval.models.towers.distributed import Group
    from molar_retrieval.models.towers.training import EpochScore
    from molar_retrieval.privacy.ledger import PrivacyBudget
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.jobs import Runner
    from molar_retrieval.workspace.pinned import PinnedWorkspace
    from molar_retrieval.workspace.settings import MolarSettings


@dataclass(frozen=True)
class PrivateOutcome:
    """What an alignment on statistics with noise took.

    Attributes:
        released: Whether statistics were released by this call; else those of the same log were found again.
        ledger: What was released so far, and what is left.
        without: Older generations that are kept for a rollback, and were made without noise.
    """

    released: bool
    ledger: "PrivacyBudget"
    without: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"released": self.released, "ledger": self.ledger.to_dict(), "without": list(self.without)}


@dataclass(frozen=True)
class Aligned:
    """What :meth:`molar.Shop.align` did.

    Attributes:
        report: Of the training.
        generation: Name of the generation that was published.
        staged: Whether it is not live: :meth:`molar.Shop.rollback` makes it so by its name.
        pushed: What went to a server, or None.
        exploration: How new items are explored: slots and scale of the draw; None: they are not.
        private: Of an alignment on statistics with noise: whether they were ``released`` by this call, and the
            ``ledger``; None: it was trained without noise.
    """

    report: "AlignReport"
    generation: str
    pushed: "PushReport | None"
    exploration: dict[str, Any] | None = None
    staged: bool = False
    private: "PrivateOutcome | None" = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        served = {} if self.pushed is None else {"pushed": self.pushed.to_dict()}
        return {
            **self.report.to_dict(),
            "generation": self.generation,
            "exploration": self.exploration,
            "staged": self.staged,
            "private": self.private and self.private.to_dict(),
            **served,
        }


def align(
    workspace: "Workspace",
    settings: "MolarSettings",
    progress: "Progress",
    *,
    restart: bool = False,
    where: str | None = None,
    others: "Sequence[Path] | None" = None,
    reading: "Runner | None" = None,
    group: "Group | None" = None,
    on_epoch: "Callable[[EpochScore], None] | None" = None,
) -> Aligned | None:
    """Train and publish; of several processes the first one does all but the training, and the others return None.

    With ``[privacy] epsilon`` it is made of statistics with noise instead, the workspace's own and those in files of
    ``others``; None: as the live ones have them. ``reading`` does what
    towers make of people for the generation; a ``group`` may train these, but where several processes were launched.
    ``on_epoch`` is told of each epoch; None: a note of the progress.
    """
    from molar_retrieval.data.prepare import prepare_catalogue
    from molar_retrieval.embedding import embed
    from molar_retrieval.models.alignment import align as train
    from molar_retrieval.models.alignment import help_to_align
    from molar_retrieval.models.refresh import refresh
    from molar_retrieval.models.towers.distributed import Processes
    from molar_retrieval.workspace.pinned import pin

    processes = Processes.of_launcher()
    if not processes.first:
        if not settings.privacy.with_noise:
            help_to_align(workspace, processes)
        return None
    if where is not None:
        prepare_catalogue(workspace.catalogue, workspace, progress, where=where)
        embed(workspace, settings.embed, progress=progress)
    if settings.privacy.with_noise:
        prepare_log(workspace, settings, progress, fixed=True)
        return align_privately(workspace, settings, progress, others, reading)
    refuse_to_break_a_promise(workspace, settings)
    prepare_log(workspace, settings, progress, choose=True)
    with pin(workspace, "catalogue", "content", "interactions", work="molar align") as read:  # one state, to the end
        report = train(
            read,
            settings,
            restart=restart,
            processes=processes,
            group=None if processes.several else group,
            progress=progress,
            on_epoch=on_epoch or (lambda score: progress.note(epoch_line(score))),
        )
        # What ships counts the interactions, too, that validation had held out.
        derived = refresh(read, progress)
        report = replace(report, folder=derived.folder, fingerprint=derived.fingerprint)
        return _published(read, settings, progress, report, reading)


def align_privately(
    workspace: "Workspace",
    settings: "MolarSettings",
    progress: "Progress",
    others: "Sequence[Path] | None" = None,
    reading: "Runner | None" = None,
) -> Aligned:
    """Release statistics with noise of the prepared log, unless they were, and publish what they give with others'."""
    from molar_indexes.generations import has_noise
    from molar_retrieval.models.alignment import AlignReport
    from molar_retrieval.models.private_alignment import align_on_statistics
    from molar_retrieval.privacy.dp_release import release_statistics
    from molar_retrieval.privacy.federated import beside_others, kept_others, open_others, terms_of
    from molar_retrieval.privacy.ledger import PrivacyLedger
    from molar_retrieval.workspace.pinned import pin

    work, dims = "molar align --privacy", settings.align.content_components
    with pin(workspace, "catalogue", "content", "interactions", work=work) as read:  # one state, to the end
        files = open_others(read, kept_others(read) if others is None else others)
        like, shops = terms_of(read, files), len(files) + 1
        folder, _, released = release_statistics(read, settings.privacy, dims, progress, like=like, shops=shops)
        read.take("statistics", beside_others(read, folder, files))
        folder, made, anew = align_on_statistics(read, settings.align, work)
        report = AlignReport(folder, made.fingerprint, not anew, {}, dict(made.facts))
        done = _published(read, settings, progress, report, reading)
    standing = PrivacyLedger(workspace.root).standing(settings.privacy)
    kept = workspace["generations"].versions()
    outcome = PrivateOutcome(released, standing, tuple(one.name for one in kept if not has_noise(one)))
    return replace(done, private=outcome)


def _published(
    read: "PinnedWorkspace",
    settings: "MolarSettings",
    progress: "Progress",
    report: "AlignReport",
    reading: "Runner | None",
) -> Aligned:
    """Publish the live alignment, and push it where a server is named."""
    from molar_indexes.refresh import publish_generation

    generation = publish_generation(
        read, settings.index, progress, exploration_settings=settings.exploration, runner=reading
    )
    name, exploration = generation.name, generation.manifest.facts["exploration"]
    generation.close()
    workspace, pushed = Workspace(read.root), None
    staged = name != workspace["generations"].require()[0].name
    if settings.index.url is not None and settings.index.activate:
        from molar_indexes.server.push import push

        pushed = push(workspace, settings.index, generation=name, progress=progress)
    return Aligned(report, name, pushed, exploration, staged)


def refuse_idle(settings: "MolarSettings", flags: Mapping[str, Any], others: bool = False) -> None:
    """Refuse options of a training that there will not be, and statistics of ``others`` that nothing is added to."""
    if others and not settings.privacy.with_noise:
        raise SettingsError(
            "statistics of other shops are added to statistics with noise, and this alignment would be without",
            "name --privacy EPSILON, or [privacy] epsilon",
        )
    if settings.privacy.with_noise:
        refuse(flags, "statistics with noise are all that is read", "leave it out, or align without privacy")
        if settings.align.own_models:
            raise SettingsError(
                "models of your own read interactions, and statistics with noise are all that is read",
                "leave [align] own_models empty, or align without privacy",
            )
    elif not settings.align.towers:
        trained = {name: flags[name] for name in ("epochs", "embedding_dim", "alignment_weight")}
        refuse(trained, "no tower is trained by these settings", "choose another preset, or leave them out")


def refuse_to_break_a_promise(workspace: "Workspace", settings: "MolarSettings") -> None:
    """A model of statistics with noise is followed by one without only where somebody says so."""
    live = workspace["alignment"].manifest
    if live is not None and PRIVATE in live.facts and settings.privacy.epsilon is None:
        raise SettingsError(
            f"the live alignment has differential privacy, ε = {live.facts[PRIVATE]['epsilon']:g}, this one would be"
            " without",
            "name [privacy] epsilon, or --privacy EPSILON; 0 says that it is meant",
        )


def prepare_log(
    workspace: "Workspace",
    settings: "MolarSettings",
    progress: "Progress",
    *,
    choose: bool = False,
    fixed: bool = False,
) -> None:
    """Bring the workspace's interactions to the present: the file and the events of kinds that count.

    With ``choose``, validation chooses these kinds where the settings leave it to that, and events came since; if they
    are ``fixed``, nothing that was ever chosen by validation matters.
    """
    from molar_retrieval.data.event_history import DEFAULT, EventWeights
    from molar_retrieval.data.prepare_interactions import prepare_interactions

    choice: Choice | None = None
    if choose:
        from molar_retrieval.models.event_weights import choose_kinds

        choice = partial(choose_kinds, settings=settings.align, split=settings.split, progress=progress)
    kinds = EventWeights.of(DEFAULT if fixed and settings.events.weights is None else settings.events.weights)
    keep_days = settings.privacy.retention_days
    prepare_interactions(workspace.catalogue, workspace, progress, kinds=kinds, choose=choice, keep_days=keep_days)


def epoch_line(score: "EpochScore") -> str:
    """An epoch in one line."""
    towers = ", ".join(f"{name} {ndcg:.4f}" for name, ndcg in score.towers.items())
    return (
        f"epoch {score.epoch:>3}  loss {score.loss:.3f}  validation NDCG@10 {score.ndcg:.4f}"
        f"  ({towers})  {score.seconds:.0f} s"
    )
