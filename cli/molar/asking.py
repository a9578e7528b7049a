"""What is asked of a shop: lists for people and sessions, searches, lists of everybody."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from molar.base import ShopBase
from molar.choosing import IndexFallback, refuse, server_of
from molar.clustering import processes as processes_here
from molar.clustering import runner_of
from molar_retrieval import limits
from molar_retrieval.errors import shown
from molar_retrieval.ranking.query import Query, QueryOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.batch import RecommendReport
    from molar_indexes.recommender import Recommender
    from molar_indexes.server.config import ServerConfig
    from molar_retrieval.ranking.results import Recommendations
    from molar_retrieval.workspace.artefacts import Workspace


@contextmanager
def suggesting_ids(workspace: "Workspace") -> Iterator[None]:
    """Name known ids that differ by case or blanks alone, where nobody has the id that was asked for."""
    from molar_indexes.constraints import UnknownPersonError

    try:
        yield
    except UnknownPersonError as error:
        from molar_indexes.inspection import similar_ids

        if found := similar_ids(workspace, error.id, is_session=error.is_session):
            error.hint = f"did you mean {' or '.join(map(shown, found))}? Else {error.hint}"
        raise


class Asking(ShopBase):
    """Answers from the live generation."""

    def server(self, index: str | None = None, index_fallback: IndexFallback | None = None) -> "ServerConfig | None":
        """The Qdrant server that answers, or None: the workspace does.

        Args:
            index: Its address, or those of several nodes, separated by commas; ``local``: none; None: as the settings
                say.
            index_fallback: What answers where it does not: nothing, or the workspace; None: as the settings say.
        """
        return server_of(self.workspace, self.settings_file, index, index_fallback)

    def recommender(
        self,
        *,
        generation: str | None = None,
        rules: str | Path | None = None,
        index: str | None = None,
        index_fallback: IndexFallback | None = None,
        trust_remote_code: bool = False,
    ) -> "Recommender":
        """Ready to answer many questions; a context manager.

        Args:
            generation: Name of a generation; None: the live one.
            rules: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.
            index: See :meth:`server`.
            index_fallback: See :meth:`server`.
            trust_remote_code: Let the items' encoder run code that it brings, in searches by words or photos.
        """
        from molar_indexes.recommender import Recommender

        server = self.server(index, index_fallback)
        return Recommender.open(
            self.workspace, generation, rules=rules, server=server, trust_remote_code=trust_remote_code
        )

    def query(
        self,
        user_id: str | None = None,
        query: Query | None = None,
        *,
        anonymous_id: str | None = None,
        session: Sequence[str] = (),
        **options: Unpack[QueryOptions],
    ) -> "Recommendations":
        """Recommend items to a user, by all interactions up to now.

        Args:
            user_id: The user; unknown ones get popular items, which ``basis`` of the answer says.
            query: The options; None: their defaults.
            anonymous_id: Instead of a user, an anonymous visitor of the event log.
            session: Instead of a user, the items that somebody just looked at, oldest first.
            **options: Options of :class:`molar.Query` that win over those of ``query``.
        """
        with self.recommender() as recommender, suggesting_ids(recommender.workspace):
            return recommender.query(user_id, query, anonymous_id=anonymous_id, session=session, **options)

    def similar(self, item_id: str, query: Query | None = None, **options: Unpack[QueryOptions]) -> "Recommendations":
        """The items whose content is most similar to that of an item.

        Args:
            item_id: The item.
            query: The options of every list; those of users are refused.
            **options: See :meth:`query`.
        """
        with self.recommender() as recommender:
            return recommender.similar(item_id, query, **options)

    def search(
        self,
        text: str | None = None,
        query: Query | None = None,
        *,
        image: "str | Path | Image | None" = None,
        similar_to: str | None = None,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        **options: Unpack[QueryOptions],
    ) -> "Recommendations":
        """Search by words, a photo or another item, or several of them together.

        Args:
            text: In words.
            query: The options of every list, ``filter_seen`` and ``as_of``; without it searches show what a user has.
            image: A file or an image.
            similar_to: An item to be like.
            user_id: For whom; what suits them comes first among what fits as well.
            anonymous_id: Instead of a user, an anonymous visitor of the event log.
            **options: See :meth:`query`.
        """
        with self.recommender() as recommender, suggesting_ids(recommender.workspace):
            return recommender.search(
                text, query, image=image, similar_to=similar_to, user_id=user_id, anonymous_id=anonymous_id, **options
            )

    def recommend(
        self,
        out: str | Path = "recommendations.parquet",
        query: Query | None = None,
        *,
        users: Sequence[str] | None = None,
        segment: str | None = None,
        processes: int | None = None,
        rules_file: str | Path | None = None,
        index: str | None = None,
        index_fallback: IndexFallback | None = None,
        cluster: str | None = None,
        **options: Unpack[QueryOptions],
    ) -> "RecommendReport":
        """Write the lists of all users, or of some, to a file; a run that was killed goes on where it was.

        Args:
            out: The file, ``.parquet``, ``.csv`` or ``.jsonl``.
            query: The options; ``k`` is at most 10,000.
            users: Whose lists; None: all.
            segment: Only users whose attributes fulfil this condition.
            processes: How many of this machine work at once; None: one per core.
            rules_file: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.
            index: See :meth:`server`.
            index_fallback: See :meth:`server`.
            cluster: Who does the work: ``ray://HOST:PORT``: that cluster; ``cluster``: the one of the settings; None:
                this machine.
            **options: See :meth:`query`.
        """
        from molar_indexes.batch import recommend
        from molar_retrieval.workspace.threads import keep_freed_memory

        if cluster is not None:
            refuse({"processes": processes}, "a cluster does the work", "[cluster] workers in molar.toml limits that")
        keep_freed_memory()
        if processes is not None:
            limits.whole("processes", processes, limits.PROCESSES)
        with self.progress() as progress:
            return recommend(
                self.workspace, Path(out), query, users=users, segment=segment,
                rules_file=None if rules_file is None else Path(rules_file),
                runner=runner_of(self, cluster, processes_here(processes)),
                server=self.server(index, index_fallback), progress=progress, **options,
            )  # fmt: skip
