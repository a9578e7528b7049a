"""The generations of the index, here and on a Qdrant server: listed, verified, rolled back, pushed, removed, sized."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase
from molar.choosing import refuse, server_of
from molar.clustering import runner_of
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import is_workspace

if TYPE_CHECKING:
    from molar_eval.version_comparison import SinceBoth
    from molar_indexes.comparison import ListComparison
    from molar_indexes.generations import GenerationInfo
    from molar_indexes.server.collections import PublishedCollection
    from molar_indexes.server.config import ServerConfig
    from molar_indexes.server.push import PushReport
    from molar_indexes.server.sizing import SizeForecast
    from molar_retrieval.workspace.settings import IndexSettings

_PATIENT = 60.0
"""Seconds that removing or looking through collections may take a server."""


@dataclass(frozen=True)
class LiveGeneration:
    """What a rollback made live.

    Attributes:
        generation: Its name.
        url: The server where that is so; None: the workspace.
        alias: What the server is asked for by, or None.
        collection: The server's collection, or None.
        kept_here: Whether the workspace has this generation, and so can ask for it.
    """

    generation: str
    url: str | None = None
    alias: str | None = None
    collection: str | None = None
    kept_here: bool = True


@dataclass(frozen=True)
class Verification:
    """Whether a generation is whole.

    Attributes:
        generation: Its name.
        problems: What is wrong, as sentences; empty where nothing is.
        url: The server that was asked as well, or None.
        warnings: What is wrong with nothing of it, but with the server: nodes of a cluster and copies that do not
            answer, or another generation that is live here, as sentences.
    """

    generation: str
    problems: tuple[str, ...]
    url: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerationDiff:
    """What changes for people if one generation answers instead of another.

    Attributes:
        before: Name of the one.
        after: Name of the other.
        lists: How the lists of a sample of people differ.
        quality: Which of the two foretold better what people took after both were made.
    """

    before: str
    after: str
    lists: "ListComparison"
    quality: "SinceBoth"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"before": self.before, "after": self.after, **self.lists.to_dict(), "quality": self.quality.to_dict()}


class Serving(ShopBase):
    """Generations, and what a server has of them."""

    def generations(self) -> "list[GenerationInfo]":
        """The workspace's generations, the newest last."""
        from molar_indexes.generations import list_generations

        return list_generations(self.opened())

    def collections(self, *, index: str | None = None) -> "list[PublishedCollection]":
        """The shop's collections on a server, items and users; none where no server is named.

        Args:
            index: Address of the server, or of several nodes, separated by commas; ``local``: none; None: as the
                settings say.

        Raises:
            ServerError: If the server does not answer.
        """
        server = server_of(self.workspace, self.settings_file, index)
        if server is None:
            return []
        from molar_indexes.server.client import connected
        from molar_indexes.server.collections import published

        with connected(server) as connection:
            return [one for alias in server.aliases for one in published(connection, alias)]

    def verify(self, generation: str | None = None, *, deep: bool = False, index: str | None = None) -> Verification:
        """Whether a generation is whole and belongs to the workspace's artefacts; with a server, as it answers there.

        Args:
            generation: Its name; None: the live one.
            deep: Read every byte, vector and user, and what it was made from.
            index: See :meth:`collections`.
        """
        from molar_indexes.generations import open_generation
        from molar_indexes.verify import bytes_changed, verify

        server, workspace = server_of(self.workspace, self.settings_file, index), self.opened()
        if server is not None:
            return _verified_there(workspace, server, generation, deep=deep)
        if deep and (damage := bytes_changed(workspace, generation)):
            return Verification(generation or workspace["generations"].require()[0].name, tuple(damage))
        with open_generation(workspace, generation) as opened:
            return Verification(opened.name, tuple(verify(opened, workspace, deep=deep, read=True)))

    def rollback(self, generation: str | None = None, *, index: str | None = None) -> LiveGeneration:
        """Make an older generation the live one: on the server where one is named, else in the workspace.

        Args:
            generation: Its name; None: the one before the live one.
            index: See :meth:`collections`.

        Raises:
            MissingArtefactError: If there is none.
        """
        server = server_of(self.workspace, self.settings_file, index)
        if server is None:
            from molar_indexes.generations import rollback

            return LiveGeneration(rollback(self.opened(), generation).name)
        from molar_indexes.server.client import connected
        from molar_indexes.server.collections import rollback as roll_the_server
        from molar_indexes.server.opening import remember

        with connected(server.patient(_PATIENT)) as connection:
            live = roll_the_server(connection, generation)
        workspace, name = Workspace(self.workspace), live.metadata.generation
        if is_workspace(self.workspace):
            remember(workspace, server, name)
        kept = (workspace["generations"].root / name).exists()
        return LiveGeneration(name, server.url, server.collection, live.name, kept)

    def diff(self, before: str | None = None, after: str | None = None, *, users: int = 500) -> GenerationDiff:
        """What changes for people between two generations of the workspace, by the first ten items of a sample of them.

        Also for which people, which part of the score did it, and which one is better by what people took since.

        Both answer as they would now, with the events since and the shop's rules, but without drawing new items.

        Args:
            before: A generation's name; None: the live one, or the one before it where that is ``after``.
            after: Another one's name; None: the live one.
            users: Of how many people, at most 2,000; they are spread evenly over those of the generation that
                knows more.

        Raises:
            RequestError: If too many people are asked for.
            MissingArtefactError: If there is no such generation.
            StaleArtefactError: If one of them is damaged.
        """
        from molar_eval.version_comparison import judged
        from molar_indexes.comparison import generations_compared
        from molar_indexes.generations import generation_before

        workspace = self.opened()
        live = workspace["generations"].require()[0].name
        after = after or live
        before = before or (generation_before(workspace, live) if after == live else live)
        about = workspace.root, before, after, users
        return GenerationDiff(before, after, generations_compared(*about), judged(*about))

    def push(
        self, generation: str | None = None, *, to: str | None = None, replace: bool = False, cluster: str | None = None
    ) -> "PushReport":
        """Publish a generation on a Qdrant server: a new collection, proved before it goes live.

        A push that was killed goes on where it was. The key is read from ``QDRANT_API_KEY``.

        Args:
            generation: Its name; None: the live one.
            to: Address of the server, or of several nodes, separated by commas; None: as the settings say.
            replace: Take the place of what is live even if it has none of these items.
            cluster: Who sends the points; see :meth:`recommend`.

        Raises:
            SettingsError: If no server is named.
            ServerError: If the server fails; what was live stays live.
        """
        from molar_indexes.server.push import push
        from molar_retrieval.workspace.jobs import SerialRunner

        settings = self._settings(index=to).index
        _server_of(settings, "name one: `molar index push --to http://host:6333`")
        with self.progress() as progress:
            runner = runner_of(self, cluster, SerialRunner())
            return push(
                self.opened(), settings, generation=generation, replace=replace, runner=runner, progress=progress
            )

    def prune(self, keep: int | None = None, *, index: str | None = None) -> list[str]:
        """Remove what only going back would need: vectors of former encoders here, older collections on a server.

        With the collections goes what failed pushes left; those that an experiment shows stay.

        Args:
            keep: How many older collections stay; None: as the settings say.
            index: See :meth:`collections`.

        Returns:
            What was removed: names of collections, and ``vectors by ENCODER``.

        Raises:
            SettingsError: If a number of collections is named, and no server.
        """
        from molar_indexes.server.config import ServerConfig
        from molar_retrieval.embedding.vector_cache import prune_previous

        settings = self._settings(index=index).index
        server = ServerConfig.of(settings)
        if server is None:
            refuse({"keep": keep}, "no server is named", "leave it out, or name one: index, or [index] url")
        workspace = self.opened() if server is None else Workspace(self.workspace)
        removed = [f"vectors by {one.encoder}" for one in prune_previous(workspace)]
        if server is None:
            return removed
        from molar_indexes.server.client import connected
        from molar_indexes.server.collections import prune
        from molar_retrieval.experiments.store import ExperimentStore

        with ExperimentStore(workspace) as experiments:
            shown = experiments.generations()
        with connected(server.patient(_PATIENT)) as connection:
            return removed + prune(connection, settings.keep if keep is None else keep, shown)

    def size(self, items: Sequence[int] | None = None, *, generation: str | None = None) -> "SizeForecast":
        """What a catalogue like this one would take on a server.

        Args:
            items: How many items; None: 1, 10 and 100 million.
            generation: Whose items are typical; None: the live one.

        Raises:
            SettingsError: If a number of items is not positive.
        """
        from molar_indexes.generations import open_generation
        from molar_indexes.server.sizing import ITEMS, SizeForecast, footprint_of

        counts = tuple(ITEMS if items is None else items)
        if not counts or min(counts) < 1:
            raise SettingsError(f"sizes of {list(counts)} items were asked for", "name numbers of items from 1")
        with open_generation(self.opened(), generation) as opened:
            return SizeForecast(footprint_of(opened), counts)


def _verified_there(workspace: Workspace, server: "ServerConfig", name: str | None, *, deep: bool) -> Verification:
    """A generation as a server answers from it; one to which it was rolled back is older than the artefacts here."""
    from molar_indexes.server.client import connected
    from molar_indexes.server.opening import open_served
    from molar_indexes.server.topology import weaknesses
    from molar_indexes.verify import verify

    store = workspace["generations"]
    with open_served(workspace, replace(server, fallback="none"), name) as opened, connected(server) as connection:
        own = store.current is not None and store.current.name == opened.name
        problems = verify(opened, workspace if own else None, deep=deep)
        warnings = list(weaknesses(connection, opened.name))
    if name is None and not own and store.current is not None:
        warnings.append(f"live there is {opened.name}, and here {store.current.name}, of which the artefacts are")
    return Verification(opened.name, tuple(problems), server.url, tuple(warnings))


def _server_of(settings: "IndexSettings", remedy: str) -> "ServerConfig":
    from molar_indexes.server.config import ServerConfig

    server = ServerConfig.of(settings)
    if server is None:
        raise SettingsError("no server is named", f"{remedy}, or [index] url")
    return server
