"""A question for a list, answered by the deadline of its call; within an experiment, where whoever asks is in one."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from molar_indexes.experiments.answering import Experimenting, GivenList, clock
from molar_indexes.experiments.arms import ListWanted
from molar_indexes.experiments.placing import Asker
from molar_serving.asking import Question, ask, popular
from molar_serving.deadlines import list_in_time
from molar_serving.endpoint import Call
from molar_serving.wire import InExperiment, RecommendationRequest, SearchRequest

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Answer


async def answered(call: Call, asked: Question) -> "tuple[Answer, list[str]]":
    """The list that is asked for by the deadline of a call, and what was left out for it, in sentences.

    A search takes as long as it takes, unless the call says how long it waits: a popular list is no answer to words,
    and the first ones of a generation take a second. Photos have a thread of their own. Recommendations are those of
    an experiment where one runs that their person is in, which ``call.within`` tells then.
    """
    service, call.within = call.service, None
    if isinstance(asked, SearchRequest) and (asked.image is not None or "prefer" not in call.request.headers):
        threads = service.answers if asked.image is None else service.photos
        return await threads.do(lambda: ask(service.recommender, asked)), []

    def listed(explain: bool, rerank: bool) -> "Answer":
        return ask(service.recommender, asked, explain=explain, rerank=rerank)

    def instead(hide: bool) -> "Answer":
        return popular(service.recommender, asked, hide=hide)

    if not isinstance(asked, RecommendationRequest):
        return await list_in_time(call, listed, instead, explain=False)
    experiments = service.experiments
    if experiments is None or not experiments.running.present:
        return await list_in_time(call, listed, instead, explain=asked.explain)
    call.within = within = ExperimentalList(experiments, asked)
    answer, notes = await list_in_time(call, within.listed, within.popular, explain=asked.explain)
    within.comes(answer)
    return answer, notes


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

    def listed(self, explain: bool, rerank: bool) -> "Answer":
        """The list, with reasons or without, with the second stage or without."""
        given = self._experiments.answer(self._asker, self._wanted(explain, rerank, hide=True), self._at)
        self._made[given.answer.request_id] = given, False
        return given.answer

    def popular(self, hide: bool) -> "Answer":
        """The popular list, where the other one would be late."""
        given = self._experiments.popular(self._asker, self._wanted(explain=False, rerank=True, hide=hide), self._at)
        self._made[given.answer.request_id] = given, True
        return given.answer

    def comes(self, answer: "Answer") -> None:
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
        def listed(recommender: "Recommender", options: Mapping[str, Any], as_of: int | None) -> "Answer":
            asked, second = by_arm(self._asked, options), rerank and bool(options.get("rerank", True))
            return ask(recommender, asked, explain=explain, rerank=second, as_of=as_of)

        def most_popular(recommender: "Recommender", options: Mapping[str, Any]) -> "Answer":
            return popular(recommender, by_arm(self._asked, options), hide=hide)

        return ListWanted(listed, most_popular)
