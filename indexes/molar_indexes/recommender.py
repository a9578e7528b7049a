"""The recommender: a workspace's live generation, ready to answer. `molar query` is this and a table.

This module is the list of what may be asked, with explicit options; :mod:`molar_indexes.answerer` answers.

A generation as it answered at a moment that is over: by the events that had come, by the rules of then.

Asked what was asked then, it gives the same answer to the last digit: items, order, scores, reasons, draws of new
items, which go by person and day. Of that moment nothing needs to be kept but the generation, the event log and the
rules. The answer differs where the log has not what it had then: where a retention removed events, or where something
is taken back that was sealed since.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import RulesSource
from molar_indexes.generations import Generation
from molar_indexes.hot_reload import Following, answering
from molar_indexes.users import UserRecord
from molar_retrieval import limits
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.query import (
    ITEM_OPTIONS,
    SEARCH_OPTIONS,
    Listing,
    Query,
    QueryOptions,
    check_subjects,
    combined,
)
from molar_retrieval.ranking.results import Recommendations
from molar_retrieval.workspace.artefacts import Workspace
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
        query: Query | None = None,
        *,
        anonymous_id: str | None = None,
        session: Sequence[str] = (),
        last_event: int | None = None,
        **options: Unpack[QueryOptions],
    ) -> Recommendations:
        """Recommend items to a user, by their history in the index version and all events since, see docs/events.md.

        Args:
            user_id: The user.
            query: The options; None: their defaults.
            anonymous_id: Instead of a user, an anonymous visitor of the event log.
            session: Instead of a user, the items that somebody just looked at, oldest first, read as of one moment.
                Unknown items are left out, and named in the notes of the answer.
            last_event: The history counts up to the event of this ``seq``, as in the answer that has it as its
                ``events``; items are as they are now, and what was seen since is hidden with the rest. None: all of it.
            **options: Options of :class:`~molar_retrieval.ranking.query.Query` that win over those of ``query``.

        Raises:
            RequestError: If no history is known of them and ``fallback`` is ``error``; if not exactly one user, visitor
                or session is given; if the condition is not understood, or something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        made = combined(query, options, "query")
        given = session is not None and not (isinstance(session, tuple) and not session)
        if (user_id is not None) + (anonymous_id is not None) + given != 1:
            raise RequestError(
                "a list is for a user, an anonymous visitor or a session", "give user_id, anonymous_id or session"
            )
        check_subjects(optional=True, user_id=user_id, anonymous_id=anonymous_id, session=session)
        if given:
            with self._following.lent() as answerer:
                return answerer.session(session, made, made.fallback, self.now)
        return self._following.answer(
            lambda one: one.query(user_id, anonymous_id, made, made.fallback, last_event, self.now)
        )

    def popular(
        self,
        query: Query | None = None,
        *,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        **options: Unpack[QueryOptions],
    ) -> Recommendations:
        """The most popular items, whoever asks; it costs a fraction of a list for a user.

        Args:
            query: The options of every list; the index version knows the first 1,000 items.
            user_id: Whose items are left out: all that they had, given back or not. None: nobody's.
            anonymous_id: The same for an anonymous visitor, where no user is named.
            **options: See :meth:`query`.

        Raises:
            RequestError: If the condition is not understood; if something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        made = combined(query, options, "popular", used=ITEM_OPTIONS)
        check_subjects(optional=True, user_id=user_id, anonymous_id=anonymous_id)
        with self._following.lent() as answerer:
            return answerer.popular(made, self.now, user_id, anonymous_id)

    def similar(self, item_id: str, query: Query | None = None, **options: Unpack[QueryOptions]) -> Recommendations:
        """The items whose content is most similar to that of an item; scores are cosines.

        Args:
            item_id: The item.
            query: The options of every list; those of users are refused.
            **options: See :meth:`query`.

        Raises:
            RequestError: If the item is unknown or has no content, and ``fallback`` is ``error``; if an option is
                wrong.
        """
        made = combined(query, options, "similar", used=ITEM_OPTIONS)
        check_subjects(item_id=item_id)
        with self._following.lent() as answerer:
            return answerer.similar(item_id, made, made.fallback, self.now)

    def search(
        self,
        text: str | None = None,
        query: Query | None = None,
        *,
        image: "str | Path | Image | None" = None,
        similar_to: str | None = None,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        last_event: int | None = None,
        **options: Unpack[QueryOptions],
    ) -> Recommendations:
        """Search by words, a photo or another item, or several of them together.

        Scores add up what each list says, see :mod:`molar_indexes.search`.

        Args:
            text: In words.
            query: The options of every list, ``filter_seen`` and ``as_of``; without it searches show what a user has.
            image: A file or an image.
            similar_to: An item to be like.
            user_id: For whom; what suits them comes first among what fits as well.
            anonymous_id: Instead of a user, an anonymous visitor of the event log.
            last_event: See :meth:`query`.
            **options: See :meth:`query`.

        Raises:
            RequestError: If nothing is asked for, the item or the user is unknown and ``fallback`` is ``error``, the
                items cannot be searched like this, the condition is not understood, or something is beyond its bound.
            DataError: If the file is no photo.
            StaleArtefactError: If the encoder that made the items' vectors is not to be had.
        """
        if user_id is not None and anonymous_id is not None:
            raise RequestError("a search is for a user or for an anonymous visitor", "give user_id or anonymous_id")
        if options.get("filter_seen") is True and user_id is None and anonymous_id is None:
            raise RequestError("filter_seen concerns a user, and none is named", "name one with user_id")
        if query is None:
            options = {"filter_seen": False, **options}
        made = combined(query, options, "search", used=SEARCH_OPTIONS)
        check_subjects(
            optional=True, text=text, image=image, similar_to=similar_to, user_id=user_id, anonymous_id=anonymous_id
        )
        with self._following.lent() as answerer:
            return answerer.search(
                text, image, similar_to, user_id, anonymous_id, made, made.fallback, last_event, self.now
            )

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
