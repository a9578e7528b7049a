"""Questions for a list, as they come over HTTP, asked of a recommender: for somebody, by words or photos, like an item.

What a list is asked for again is the same question: its next page is behind the first places of a longer list.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec

from molar_eval.experiments.arms import ListWanted
from molar_eval.experiments.assignment import Asker
from molar_eval.experiments.routing import Experimenting, GivenList, clock
from molar_retrieval.columns import IMAGE
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_serving.problems import ProblemError
from molar_serving.wire import (
    Among,
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
    as_of: int | None = None,
) -> "Recommendations":
    """The list that is asked for; the popular one where nothing is known of whom or what it is asked for.

    Args:
        recommender: Whom.
        asked: What.
        explain: Whether there are reasons.
        rerank: Whether there is a second stage.
        k: How many items; None: as the question says.
        as_of: Up to which event people's histories count, None: all.
    """
    length = asked.k if k is None else k
    if isinstance(asked, RecommendationRequest):
        answer = _recommended(recommender, asked, length, explain, rerank, as_of)
    elif isinstance(asked, SearchRequest):
        answer = _found(recommender, asked, length, as_of)
    else:
        answer = recommender.similar(str(asked.item_id), length, fallback="popular", **_among(asked))
    return with_photos(answer, recommender, asked.fields)


def popular(
    recommender: "Recommender", asked: Question, k: int | None = None, *, hide: bool = False
) -> "Recommendations":
    """The popular list within the limits of a question; ``hide``: without what its person had, if it asks for that."""
    among, user_id, session_id = _among(asked), None, None
    if hide and isinstance(asked, RecommendationRequest | SearchRequest) and asked.seen == "hide":
        if isinstance(asked, RecommendationRequest) and asked.items is not None:
            among["exclude"] += map(str, asked.items)
        else:
            user_id, session_id = who(asked)
    length = asked.k if k is None else k
    answer = recommender.popular(length, user_id=user_id, session_id=session_id, **among)
    return with_photos(answer, recommender, asked.fields)


def with_photos(answer: "Recommendations", recommender: "Recommender", fields: Sequence[str]) -> "Recommendations":
    """The answer with the paths of photos in the catalogue's folder, where they are among the fields asked for."""
    version = recommender.workspace["catalogue"].current if IMAGE in fields else None
    if version is None:
        return answer
    from molar_retrieval.data.catalogue import Catalogue

    folder = Catalogue.open(version).folder
    photos = {item.item_id: answer.photo_of(item.item_id) for item in answer.items}
    names = {item_id: path.relative_to(folder).as_posix() for item_id, path in photos.items() if path is not None}
    items = [replace(item, payload={**item.payload, IMAGE: names.get(item.item_id)}) for item in answer.items]
    return replace(answer, items=items)


def who(asked: Person) -> tuple[str | None, str | None]:
    """User and session of a question; a user who is named counts alone."""
    if asked.user_id is not None:
        return str(asked.user_id), None
    return None, None if asked.anonymous_id is None else str(asked.anonymous_id)


def named(asked: Question, names: Pseudonymiser) -> Question:
    """The same question with its person as a workspace calls them, so that it may be kept there."""
    if isinstance(asked, SimilarRequest) or not names.keys:
        return asked
    user_id, session_id = who(asked)
    user = None if user_id is None else names.user(user_id)
    session = None if session_id is None else names.session(session_id)
    return msgspec.structs.replace(asked, user_id=user, anonymous_id=session)


def _among(asked: Among) -> dict[str, Any]:
    return {
        "where": asked.where,
        "rules": asked.rules,
        "exclude": [str(item) for item in asked.exclude],
        "only": None if asked.only is None else [str(item) for item in asked.only],
    }


def _recommended(
    recommender: "Recommender", asked: RecommendationRequest, k: int, explain: bool, rerank: bool, as_of: int | None
) -> "Recommendations":
    names = ("seen", "objective", "diversity", "calibrate", "calibration", "explore")
    options = {name: getattr(asked, name) for name in names} | {"explain": explain, "rerank": rerank, **_among(asked)}
    if explain or not asked.explain:  # a language of reasons that were left out is no mistake
        options["language"] = asked.language
    if asked.items is not None:
        return recommender.session([str(item) for item in asked.items], k, fallback="popular", **options)
    user_id, session_id = who(asked)
    if user_id is None and session_id is None:
        raise ProblemError(422, "nobody is named", "give user_id, anonymous_id or items", field="user_id")
    return recommender.query(user_id, k, session_id=session_id, fallback="popular", as_of=as_of, **options)


def _found(recommender: "Recommender", asked: SearchRequest, k: int, as_of: int | None) -> "Recommendations":
    image = None if asked.image is None else opened_photo(asked.image)
    user_id, session_id = who(asked)
    return recommender.search(
        asked.text,
        image,
        k,
        similar=None if asked.similar is None else str(asked.similar),
        user_id=user_id,
        session_id=session_id,
        seen="show" if user_id is None and session_id is None else asked.seen,
        fallback="popular",
        as_of=as_of,
        **_among(asked),
    )


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
    """A question with the options of an arm, but for the second stage, which is none of its fields."""
    fields = {name: value for name, value in options.items() if name != "rerank"}
    return msgspec.structs.replace(asked, **fields) if fields else asked


class ExperimentalList:
    """A list, made by the arm of whoever asks; several threads may make one of it, of which one comes to its end.

    Args:
        experiments: Those that run.
        asked: What was asked.
    """

    def __init__(self, experiments: Experimenting, asked: RecommendationRequest) -> None:
        self._experiments, self._asked = experiments, asked
        self._began, self._at = time.perf_counter(), clock()
        user = None if asked.user_id is None else str(asked.user_id)
        session = None if asked.anonymous_id is None else str(asked.anonymous_id)
        arms = {str(name): arm for name, arm in asked.arms.items()}
        self._asker = Asker(user, session, asked.placement, arms, recorded=not asked.dry_run)
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
        def listed(recommender: "Recommender", options: Mapping[str, Any], as_of: int | None) -> "Recommendations":
            asked, second = by_arm(self._asked, options), rerank and bool(options.get("rerank", True))
            return ask(recommender, asked, explain=explain, rerank=second, as_of=as_of)

        def most_popular(recommender: "Recommender", options: Mapping[str, Any]) -> "Recommendations":
            return popular(recommender, by_arm(self._asked, options), hide=hide)

        return ListWanted(listed, most_popular)
