"""What is asked of a shop: lists for people and sessions, searches, lists of everybody."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from molar.base import ShopBase
from molar.choosing import IndexFallback, refuse, server_of
from molar.clustering import processes as processes_here
from molar.clustering import runner_of
from molar_retrieval import limits
from molar_retrieval.errors import shown
from molar_retrieval.ranking.objectives import Seen
from molar_retrieval.ranking.query import Fallback, honest
from molar_retrieval.workspace.config_files import ObjectiveName

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.batch import RecommendReport
    from molar_indexes.recommender import Recommender
    from molar_indexes.server.config import ServerConfig
    from molar_retrieval.ranking.filters import Expression
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
        k: int = 10,
        *,
        session_id: str | None = None,
        where: "Expression | str | None" = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        seen: Seen = "hide",
        objective: ObjectiveName | None = None,
        diversity: float = 0.0,
        calibrate: str | None = None,
        calibration: float = 0.5,
        rerank: bool = True,
        explore: bool = True,
        explain: bool = False,
        language: str = "en",
        fallback: Fallback = "none",
    ) -> "Recommendations":
        """What somebody should see next, by all that they did up to now.

        Args:
            user_id: The user.
            k: How many items.
            session_id: Instead of a user, somebody of whom the event log knows a session alone.
            where: Condition on the items' attributes: ``category in (Shoes, Vases) and price < 40``.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            seen: Whether items of the history may come back.
            objective: ``next_item`` or ``future_items``; None: the first one of ``[align] objectives``.
            diversity: Weight of unlikeness among the items, 0 to 1.
            calibrate: A field whose mix in the history the list should have.
            calibration: How much that counts, 0 to 1.
            rerank: Whether the second stage moves what it can.
            explore: Whether new items are drawn for the places in which they are tried.
            explain: Whether to say why.
            language: Of the reasons.
            fallback: ``popular`` answers people without history.
        """
        with self.recommender() as recommender, suggesting_ids(recommender.workspace):
            return recommender.query(
                user_id, k, session_id=session_id, where=where, exclude=exclude, only=only, rules=rules, seen=seen,
                objective=objective, diversity=diversity, calibrate=calibrate, calibration=calibration, rerank=rerank,
                explore=explore, explain=explain, language=language, fallback=fallback,
            )  # fmt: skip

    @honest
    def similar(
        self,
        item_id: str,
        k: int = 10,
        *,
        where: "Expression | str | None" = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        fallback: Fallback = "none",
    ) -> "Recommendations":
        """The items whose content is most like that of an item.

        Args:
            item_id: The item.
            k: How many items.
            where: Condition on the items' attributes: ``category in (Shoes, Vases) and price < 40``.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            fallback: ``popular`` answers where nothing is known of the item.
        """
        with self.recommender() as recommender:
            return recommender.similar(
                item_id, k, where=where, exclude=exclude, only=only, rules=rules, fallback=fallback
            )

    @honest
    def search(
        self,
        text: str | None = None,
        *,
        image: "str | Path | Image | None" = None,
        similar: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        k: int = 10,
        seen: Seen = "show",
        where: "Expression | str | None" = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        fallback: Fallback = "none",
    ) -> "Recommendations":
        """The items that words, a photo or another item ask for, or several of them together.

        Args:
            text: In words.
            image: A file or an image.
            similar: An item to be like.
            user_id: For whom; what suits them comes first among what fits as well.
            session_id: Instead of a user, somebody of whom the event log knows a session alone.
            k: How many items.
            seen: Whether items that they have may come.
            where: Condition on the items' attributes: ``category in (Shoes, Vases) and price < 40``.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            fallback: ``popular`` searches for nobody where nothing is known of them, and answers where nothing is left
                to search by.
        """
        with self.recommender() as recommender, suggesting_ids(recommender.workspace):
            return recommender.search(
                text, image, k, similar=similar, user_id=user_id, session_id=session_id, seen=seen, where=where,
                exclude=exclude, only=only, rules=rules, fallback=fallback,
            )  # fmt: skip

    def recommend(
        self,
        out: str | Path = "recommendations.parquet",
        k: int = 10,
        *,
        users: Sequence[str] | None = None,
        segment: str | None = None,
        where: "Expression | str | None" = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        seen: Seen = "hide",
        objective: ObjectiveName | None = None,
        diversity: float = 0.0,
        calibrate: str | None = None,
        calibration: float = 0.5,
        rerank: bool = True,
        explore: bool = True,
        processes: int | None = None,
        rules_file: str | Path | None = None,
        index: str | None = None,
        index_fallback: IndexFallback | None = None,
        cluster: str | None = None,
    ) -> "RecommendReport":
        """Write the lists of all users, or of some, to a file; a run that was killed goes on where it was.

        Args:
            out: The file, ``.parquet``, ``.csv`` or ``.jsonl``.
            k: How many items for each.
            users: Whose lists; None: all.
            segment: Only people whose attributes fulfil this condition.
            where: See :meth:`query`.
            exclude: See :meth:`query`.
            only: See :meth:`query`.
            rules: See :meth:`query`.
            seen: See :meth:`query`.
            objective: See :meth:`query`.
            diversity: See :meth:`query`.
            calibrate: See :meth:`query`.
            calibration: See :meth:`query`.
            rerank: See :meth:`query`.
            explore: See :meth:`query`.
            processes: How many of this machine work at once; None: one per core.
            rules_file: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.
            index: See :meth:`server`.
            index_fallback: See :meth:`server`.
            cluster: Who does the work: ``ray://HOST:PORT``: that cluster; ``cluster``: the one of the settings; None:
                this machine.
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
                self.workspace, Path(out), k, users=users, segment=segment, where=where, exclude=exclude, only=only,
                rules=rules, seen=seen, objective=objective, diversity=diversity, calibrate=calibrate,
                calibration=calibration, rerank=rerank, explore=explore,
                rules_file=None if rules_file is None else Path(rules_file),
                runner=runner_of(self, cluster, processes_here(processes)),
                server=self.server(index, index_fallback), progress=progress,
            )  # fmt: skip
