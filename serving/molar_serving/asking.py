"""Questions for a list, as they come over HTTP, asked of a recommender: for somebody, by words or photos, like an item.

What a list is asked for again is the same question: its next page is behind the first places of a longer list.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec

from molar_eval.experiments.arms import ListWanted
from molar_eval.experiments.assignment import Asker
from molar_eval.experiments.routing import Experimenting, GivenList, clock
from molar_retrieval.columns import IMAGE
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.ranking.query import ITEM_OPTIONS, OPTIONS, Query
from molar_serving.problems import ProblemError
from molar_serving.wire import (
    InExperiment,
    RankingsRequest,
    RecommendationRequest,
    SearchRequest,
    SimilarRequest,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Recommendations

Question: TypeAlias = RecommendationRequest | SearchRequest | SimilarRequest
Person: TypeAlias = RecommendationRequest | SearchRequest | RankingsRequest


def ask(
    recommender: "Recommender",
    asked: Question,
    *,
    explain: bool = False,
    rerank: bool = True,
    k: int | None = None,
    last_event: int | None = None,
) -> "Recommendations":
    """The list that is asked for.

    Args:
        recommender: Whom.
        asked: What.
        explain: Whether there are reasons, where they are asked for.
        rerank: Whether there is a second stage, likewise.
        k: How many items; None: as the question says.
        last_event: Up to which event people's histories count, None: all.
    """
    options = _options(asked, OPTIONS) | ({} if k is None else {"k": k})
    if isinstance(asked, SimilarRequest):
        answer = recommender.similar(asked.item_id, **options)
    elif isinstance(asked, SearchRequest):
        answer = _found(recommender, asked, last_event, options)
    else:
        options["rerank"] = asked.rerank and rerank
        options |= {"explain": True} if explain else {"explain": False, "language": Query().language}
        answer = _recommended(recommender, asked, last_event, options)
    return with_photos(answer, recommender)


def popular(
    recommender: "Recommender", asked: Question, k: int | None = None, *, hide: bool = False
) -> "Recommendations":
    """The popular list within the limits of a question; ``hide``: without what its person had, if it asks for that."""
    options, user_id, anonymous_id = _options(asked, ITEM_OPTIONS), None, None
    options |= {} if k is None else {"k": k}
    if hide and not isinstance(asked, SimilarRequest) and asked.filter_seen:
        if isinstance(asked, RecommendationRequest) and asked.session is not None:
            options["exclude"] = (*options["exclude"], *asked.session)
        else:
            user_id, anonymous_id = who(asked)
    return with_photos(recommender.popular(user_id=user_id, anonymous_id=anonymous_id, **options), recommender)


def _options(asked: Question, names: Collection[str]) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in names if hasattr(asked, name)}


def with_photos(answer: "Recommendations", recommender: "Recommender") -> "Recommendations":
    """The answer with the paths of photos in the catalogue's folder, where they are among the fields asked for."""
    version = recommender.workspace["catalogue"].current if IMAGE in answer.fields else None
    if version is None:
        return answer
    from molar_retrieval.data.catalogue import Catalogue

    folder = Catalogue.open(version).folder
    photos = {item.item_id: answer.photo_of(item.item_id) for item in answer.items}
    names = {item_id: path.relative_to(folder).as_posix() for item_id, path in photos.items() if path is not None}
    items = [replace(item, payload={**item.payload, IMAGE: names.get(item.item_id)}) for item in answer.items]
    return replace(answer, items=items)


def who(asked: Person) -> tuple[str | None, str | None]:
    """User and anonymous visitor of a question; a user who is named counts alone."""
    if asked.user_id is not None:
        return str(asked.user_id), None
    return None, None if asked.anonymous_id is None else str(asked.anonymous_id)


def named(asked: Question, names: Pseudonymiser) -> Question:
    """The same question with its person as a workspace calls them, so that it may be kept there."""
    if isinstance(asked, SimilarRequest) or not names.keys:
        return asked
    user_id, anonymous_id = who(asked)
    user = None if user_id is None else names.user(user_id)
    session = None if anonymous_id is None else names.session(anonymous_id)
    return msgspec.structs.replace(asked, user_id=user, anonymous_id=session)


def _recommended(
    recommender: "Recommender", asked: RecommendationRequest, last_event: int | None, options: dict[str, Any]
) -> "Recommendations":
    if asked.session is not None:
        return recommender.query(session=asked.session, **options)
    user_id, anonymous_id = who(asked)
    if user_id is None and anonymous_id is None:
        raise ProblemError(422, "nobody is named", "give user_id, anonymous_id or session", field="user_id")
    return recommender.query(user_id, anonymous_id=anonymous_id, last_event=last_event, **options)


def _found(
    recommender: "Recommender", asked: SearchRequest, last_event: int | None, options: dict[str, Any]
) -> "Recommendations":
    image = None if asked.image is None else opened_photo(asked.image)
    user_id, anonymous_id = who(asked)
    options["filter_seen"] = asked.filter_seen and (user_id, anonymous_id) != (None, None)
    return recommender.search(
        asked.text, image=image, similar_to=asked.similar_to, user_id=user_id, anonymous_id=anonymous_id,
        last_event=last_event, **options,
    )  # fmt: skip


def opened_photo(content: bytes) -> "Image":
    """A photo, opened by a process of its own within its bounds."""
    from molar_retrieval.data.images import ImageError, open_bytes  # brings Pillow

    try:
        return open_bytes(content)
    except ImageError as error:
        raise ProblemError(
            422, f"the image is no photo to search by: {error.reason}", "send a JPEG, PNG or WebP file", field="image"
        ) from error


def by_arm(asked: RecommendationRequest, options: Mapping[str, Any]) -> RecommendationRequest:
    """A question with the options of an arm."""
    return msgspec.structs.replace(asked, **options) if options else asked


class ExperimentalList:
    """A list, made by the arm of whoever asks; several threads may make one of it, of which one comes to its end.

    Args:
        experiments: Those that run.
        asked: What was asked.
    """

    def __init__(self, experiments: Experimenting, asked: RecommendationRequest) -> None:
        self._experiments, self._asked = experiments, asked
        self._began, self._at = time.perf_counter(), clock()
        arms = {str(name): arm for name, arm in asked.arms.items()}
        self._asker = Asker(asked.user_id, asked.anonymous_id, asked.placement, arms, recorded=not asked.dry_run)
        self._made: dict[str, tuple[GivenList, bool]] = {}
        self._come: tuple[GivenList, bool] | None = None

    def listed(self, explain: bool, rerank: bool) -> "Recommendations":
        """The list, with reasons or without, with the second stage or without."""
        given = self._experiments.answer(self._asker, self._wanted(explain, rerank, hide=True), self._at)
        self._made[given.answer.request_id] = given, False
        return given.answer

    def popular(self, hide: bool) -> "Recommendations":
        """The popular list, where the other one would be late."""
        given = self._experiments.popular(self._asker, self._wanted(explain=False, rerank=True, hide=hide), self._at)
        self._made[given.answer.request_id] = given, True
        return given.answer

    def comes(self, answer: "Recommendations") -> None:
        """It is this list that comes."""
        self._come = self._made[answer.request_id]

    @property
    def told(self) -> InExperiment | None:
        """What the answer tells of it."""
        given = None if self._come is None else self._come[0]
        if given is None or given.experiment is None:
            return None
        return InExperiment(name=given.experiment, arm=cast(Literal["control", "treatment", "interleaved"], given.arm))

    @property
    def question(self) -> RecommendationRequest:
        """What was asked, with the options of the arm."""
        given = None if self._come is None else self._come[0]
        if given is None or given.placed is None or given.failed:
            return self._asked
        arm = given.placed.live.arms.get(given.arm or "")
        return self._asked if arm is None else by_arm(self._asked, arm.arm.options)

    def record(self, *, compare: bool) -> None:
        """Have it written down that the list is on its way, and compared with the other arm's if there is time."""
        if self._come is not None and not self._asked.dry_run:
            given, late = self._come
            self._experiments.record(given, 1000 * (time.perf_counter() - self._began), late=late, compare=compare)

    def _wanted(self, explain: bool, rerank: bool, *, hide: bool) -> ListWanted:
        def listed(recommender: "Recommender", options: Mapping[str, Any], last_event: int | None) -> "Recommendations":
            asked = by_arm(self._asked, options)
            return ask(recommender, asked, explain=explain, rerank=rerank, last_event=last_event)

        def most_popular(recommender: "Recommender", options: Mapping[str, Any]) -> "Recommendations":
            return popular(recommender, by_arm(self._asked, options), hide=hide)

        return ListWanted(listed, most_popular)
