"""The recommender: a workspace's live generation, ready to answer. `molar query` is this and a table.

This module is the list of what may be asked, with explicit options; :mod:`molar_indexes.answerer` answers.

A generation as it answered at a moment that is over: by the events that had come, by the rules of then.

Asked what was asked then, it gives the same answer to the last digit: items, order, scores, reasons, draws of new
items, which go by person and day. Of that moment nothing needs to be kept but the generation, the event log and the
rules. The answer differs where the log has not what it had then: where a retention removed events, or where something
is taken back that was sealed since.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import RulesSource
from molar_indexes.generations import Generation
from molar_indexes.hot_reload import Following, answering
from molar_indexes.users import UserRecord
from molar_retrieval import limits
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.objectives import Seen
from molar_retrieval.ranking.query import Fallback, Listing, Query, check_subjects, honest
from molar_retrieval.ranking.results import Recommendations
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import ObjectiveName
from molar_retrieval.workspace.discovery import file_beside

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.server.config import ServerConfig
    from molar_retrieval.ranking.ranker import Ranker

RULES_FILE = "rules.toml"


class Recommender:
    """Answers from the live generation, or from one that stays; safe to share between threads, a context manager.

    Without the name of one it follows the live one: what is published or rolled back answers from the next question on,
    each answer is of one, and notes tell of one that cannot be opened. The file of rules is read again when it changes.

    Args:
        workspace: Where the generation lives.
        generation: Which one, opened; nothing else answers. Or how the live one is followed.
        rules: A file of rules, see :mod:`molar_retrieval.ranking.rules`, or what it would hold; None: no rules.
        trust: See :meth:`open`.

    Attributes:
        now: From when the age of what is fresh counts; None: from the moment of each answer.
    """

    def __init__(
        self,
        workspace: Workspace,
        generation: Generation | Following,
        rules: RulesSource | None = None,
        *,
        trust: bool = False,
    ) -> None:
        if isinstance(generation, Generation):
            answerer = Answerer(workspace, generation, rules, rules_needed=rules is not None, trust=trust)
            generation = Following(answerer)
        self.workspace, self._following = workspace, generation
        self.now: datetime | None = None

    @classmethod
    def open(
        cls,
        workspace: str | Path,
        generation: str | None = None,
        *,
        rules: str | Path | None = None,
        follow: bool = True,
        server: "ServerConfig | None" = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """Open a workspace's live generation, or the one named; or what is live on a server.

        Args:
            workspace: Its folder.
            generation: A generation's name.
            rules: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.
            follow: Whether what goes live later answers from then on; one that is named stays in any case.
            server: Has the items, and maybe the users; None: the workspace has them.
            trust_remote_code: Let the items' encoder run code that it brings, in searches by words or photos.

        Raises:
            RequestError: If a path is too long.
            MissingArtefactError: If there is no workspace or no generation yet.
            StaleArtefactError: If the generation is corrupt, or the server has another one.
            BackendError: If the server does not answer.
        """
        for path in (workspace, rules or RULES_FILE):
            limits.path("the path", path)
        place = Workspace.open(Path(workspace))
        file = Path(rules) if rules is not None else file_beside(place.root, RULES_FILE)
        following = answering(
            place, generation, file, rules_needed=rules is not None, follow=follow, server=server,
            trust=trust_remote_code,
        )  # fmt: skip
        return cls(place, following)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer nothing more, and release the generation's files once the answers under way are through."""
        self._following.close()

    def answering(self) -> AbstractContextManager[Answerer]:
        """What answers now, for :mod:`molar_indexes.inspection`; it stays open until the context is left."""
        return self._following.lent()

    def follow_ahead(self, vetted: Callable[[Generation], None] = lambda _: None, *, every: float = 0.1) -> None:
        """From now on open what goes live in the background, and ask it the latest questions before it answers.

        Args:
            vetted: Raises a MolarError where a generation must not answer; the former one goes on, with a note.
            every: Seconds between two looks at what is live.
        """
        self._following.ahead(every, lambda answerer: vetted(answerer.generation))

    def catch_up(self) -> None:
        """Return once what is live now answers, or was refused, for those who follow in the background."""
        self._following.catch_up()

    @property
    def refused(self) -> str | None:
        """Why what is live now does not answer, as it says in notes of answers; None: it does."""
        return self._following.present.refused

    @property
    def generation(self) -> Generation:
        """What the last answer came from; one that follows may close it any time: see ``follow`` of :meth:`open`."""
        return self._following.present.generation

    @property
    def ranker(self) -> "Ranker":
        """What ranks the items of :attr:`generation`."""
        return self._following.present.ranker

    def query(
        self,
        user_id: str | None = None,
        k: int = 10,
        *,
        session_id: str | None = None,
        where: Expression | str | None = None,
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
        as_of: int | None = None,
    ) -> Recommendations:
        """What somebody should see next, by their history in the generation and all events since, see docs/events.md.

        Args:
            user_id: The user.
            k: How many items.
            session_id: Instead of a user, somebody of whom the event log knows a session alone.
            where: See :class:`~molar_retrieval.ranking.query.Query`, as for all that follows but the last.
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
            fallback: ``popular`` answers with the most popular items where there is no history.
            as_of: What they did counts up to the event of this ``seq``, as in the answer that has it as its ``events``;
                items are as they are now, and what was seen since is hidden with the rest. None: all of it.

        Raises:
            RequestError: If no history is known of them and there is no fallback; if not exactly one of both is given;
                if the condition is not understood, ``only`` names an unknown item, or something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        query = Query(
            k=k, where=where, exclude=exclude, only=only, rules=rules, seen=seen, objective=objective,
            diversity=diversity, calibrate=calibrate, calibration=calibration, rerank=rerank, explore=explore,
            explain=explain, language=language,
        )  # fmt: skip
        if (user_id is None) == (session_id is None):
            raise RequestError("a list is for a user or for a session", "give user_id or session_id")
        check_subjects(optional=True, user_id=user_id, session_id=session_id)
        check_subjects(fallback=fallback)
        return self._following.answer(lambda one: one.query(user_id, session_id, query, fallback, as_of, self.now))

    def session(
        self,
        item_ids: Sequence[str],
        k: int = 10,
        *,
        where: Expression | str | None = None,
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
    ) -> Recommendations:
        """What somebody should see next who just looked at ``item_ids`` (oldest first).

        It is read as if all of it were at one moment, by :mod:`molar_retrieval.models.towers.inference`. Unknown items
        are left out, and named in the notes of the answer.

        Args:
            item_ids: The session.
            k: How many items.
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            seen: Whether items of the session may come back.
            objective: See :meth:`query`.
            diversity: Weight of unlikeness among the items, 0 to 1.
            calibrate: A field whose mix in the session the list should have.
            calibration: How much that counts, 0 to 1.
            rerank: Whether the second stage moves what it can.
            explore: Whether new items are drawn for the places in which they are tried.
            explain: Whether to say why.
            language: Of the reasons.
            fallback: ``popular`` answers with the most popular items where all are unknown.

        Raises:
            RequestError: If no item is named, or all are unknown and there is no fallback; if the condition is not
                understood; if something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        query = Query(
            k=k, where=where, exclude=exclude, only=only, rules=rules, seen=seen, objective=objective,
            diversity=diversity, calibrate=calibrate, calibration=calibration, rerank=rerank, explore=explore,
            explain=explain, language=language,
        )  # fmt: skip
        check_subjects(items=item_ids, fallback=fallback)
        with self._following.lent() as answerer:
            return answerer.session(item_ids, query, fallback, self.now)

    @honest
    def popular(
        self,
        k: int = 10,
        *,
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        user_id: str | None = None,
        session_id: str | None = None,
    ) -> Recommendations:
        """The items that most people took, whoever asks; it costs a fraction of a list for somebody.

        Args:
            k: How many items; the generation knows the first 1,000.
            user_id: Whose items are left out: all that they had, given back or not. None: nobody's.
            session_id: The same for somebody anonymous, where no user is named.
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all. A note tells of unknown ones.
            rules: Whether the shop's rules hold, as for somebody of whom nothing is known.

        Raises:
            RequestError: If the condition is not understood; if something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        query = Query(k=k, where=where, exclude=exclude, only=only, rules=rules)
        check_subjects(optional=True, user_id=user_id, session_id=session_id)
        with self._following.lent() as answerer:
            return answerer.popular(query, self.now, user_id, session_id)

    @honest
    def similar(
        self,
        item_id: str,
        k: int = 10,
        *,
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        fallback: Fallback = "none",
    ) -> Recommendations:
        """The items whose content is most like that of ``item_id``; scores are cosines.

        Args:
            item_id: The item.
            k: How many items.
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            fallback: ``popular`` answers with the most popular items where nothing is known of the item.

        Raises:
            RequestError: If the item is unknown or has no content, without a fallback; if anything else asked is wrong.
        """
        query = Query(k=k, where=where, exclude=exclude, only=only, rules=rules)
        check_subjects(similar=item_id, fallback=fallback)
        with self._following.lent() as answerer:
            return answerer.similar(item_id, query, fallback, self.now)

    @honest
    def search(
        self,
        text: str | None = None,
        image: "str | Path | Image | None" = None,
        k: int = 10,
        *,
        similar: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        seen: Seen = "show",
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        fallback: Fallback = "none",
        as_of: int | None = None,
    ) -> Recommendations:
        """The items that some words, a photo or another item ask for, or several of them together.

        Scores add up what each list says, see :mod:`molar_indexes.search`.

        Args:
            text: In words.
            image: A file or an image.
            k: How many items.
            similar: An item to be like.
            user_id: For whom; what suits them comes first among what fits as well.
            session_id: Instead of a user, somebody of whom the event log knows a session alone.
            seen: Whether items that they have may come.
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            fallback: ``popular`` searches for nobody where nothing is known of them, and answers with the most popular
                items where nothing is left to search by: the item is unknown, there are no words in the text.
            as_of: See :meth:`query`.

        Raises:
            RequestError: If nothing is asked for, the item or the user is unknown and there is no fallback, the items
                cannot be searched like this, the condition is not understood, or something is beyond its bound.
            DataError: If the file is no photo.
            StaleArtefactError: If the encoder that made the items' vectors is not to be had.
        """
        query = Query(k=k, where=where, exclude=exclude, only=only, rules=rules, seen=seen)
        if user_id is not None and session_id is not None:
            raise RequestError("a search is for a user or for a session", "give user_id or session_id")
        if seen == "hide" and user_id is None and session_id is None:
            raise RequestError("seen = 'hide' concerns a user, and none is named", "name one with user_id")
        check_subjects(optional=True, text=text, image=image, similar=similar, user_id=user_id, session_id=session_id)
        check_subjects(fallback=fallback)
        with self._following.lent() as answerer:
            return answerer.search(text, image, similar, user_id, session_id, query, fallback, as_of, self.now)

    def rank_many(self, users: Sequence[UserRecord], query: Query) -> Iterator[Listing]:
        """The lists of several users with a history, as :meth:`query` gives each of them without reasons, in less time.

        What they did since counts; who returned everything has an empty list. All are of one generation, which must be
        that of the users: see ``follow`` of :meth:`open`. A wrong condition or rule is an error before any work.
        """
        listings = self._lent(users, query)
        next(listings)
        return listings

    def _lent(self, users: Sequence[UserRecord], query: Query) -> Iterator[Listing]:
        """The lists, after an empty one as soon as the generation is lent, which it is until they are through."""
        with self._following.lent() as answerer:
            ranked = answerer.rank_many(users, query, self.now)
            yield Listing(())
            yield from (Listing(()) if one is None else one.listing() for one in ranked)


@contextmanager
def as_it_was(
    recommender: Recommender, events: int, at: datetime, rules: RulesSource | None = None
) -> Iterator[Recommender]:
    """What a recommender's generation answered once.

    Args:
        recommender: Has the generation open; it stays open until the context is left.
        events: The last event that was known.
        at: The moment; that of an answer is in its id, see :func:`molar_retrieval.ranking.results.made_at`.
        rules: The file of rules of then, or what it held; None: there were none.
    """
    with recommender.answering() as present:
        about, needed = (present.workspace, present.generation, rules), rules is not None
        former = Answerer(*about, rules_needed=needed, trust=False, until=events)
        try:
            past = Recommender(present.workspace, Following(former))
            past.now = at
            yield past
        finally:
            former.release_log()
