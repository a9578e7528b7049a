"""Lists as they go over the wire, and what is kept of them.

By when there must be an answer, and what comes where the whole of it would be late.

That is what the server allows, or less, by ``Prefer: wait=50ms`` (RFC 7240).
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from molar_indexes.answerer import POPULARITY
from molar_indexes.search import PERSONAL
from molar_retrieval import limits
from molar_retrieval.experiments.definition import INTERLEAVED
from molar_retrieval.ranking.results import Recommendation, Recommendations
from molar_serving.asking import ExperimentalList, Question, ask, named, popular, who
from molar_serving.auth import redact_for_pages
from molar_serving.endpoint import Call, Reply
from molar_serving.overload import Effort, LateError
from molar_serving.response_store import Shown, propensities_of
from molar_serving.wire import (
    AnsweredItem,
    ListAnswer,
    RecommendationRequest,
    SearchRequest,
    SimilarRequest,
    encode,
)

if TYPE_CHECKING:
    pass

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,6})?)(ms|s)?\"?\s*(?:$|[,;])", re.IGNORECASE)
_SPARED = 3  # times what a popular list takes: left before the deadline to make one
_MISSING: dict[type[Question], str] = {
    RecommendationRequest: "nothing is known of who asks",
    SearchRequest: "nothing is left to search by",
    SimilarRequest: "nothing is known of the item",
}


def deadline_of(request: Request, most: float) -> float:
    """The moment on the clock of ``time.perf_counter``; ``most`` are the seconds that the server allows.

    ``wait`` counts seconds, as the RFC has it, or milliseconds with ``ms``. What is not understood is not heeded.
    """
    wanted = most
    preference = request.headers.get("prefer")
    if preference is not None and (found := _WAIT.search(preference)):
        wanted = float(found[1]) / (1000 if (found[2] or "").lower() == "ms" else 1)
    return time.perf_counter() + min(wanted, most)


async def list_in_time(
    call: Call,
    listed: Callable[[bool, bool], Recommendations],
    popular: Callable[[bool], Recommendations],
    *,
    explain: bool,
) -> tuple[Recommendations, list[str]]:
    """A list by the deadline of a call, and what was left out for it, in sentences.

    Args:
        call: The call.
        listed: Makes the list: with reasons or without, with the second stage or without.
        popular: Makes the popular list, which comes where the other one would be late; without what its person had,
            or, if there is no time left to look that up, with it.
        explain: Whether reasons are asked for.

    Raises:
        ProblemError: If more is asked than can be answered.
    """
    service, notes = call.service, list[str]()
    effort = service.answers.effort
    reasons, second_stage = explain and effort >= Effort.WITHOUT_REASONS, effort > Effort.FIRST_STAGE
    if reasons < explain:
        service.metrics.shed("reasons")
        notes.append("the server is busy, so the reasons are left out")
    if not second_stage and service.recommender.generation.table.reranker is not None:
        service.metrics.shed("second_stage")
        notes.append("the server is busy, so the second stage is left out")
    by = None if call.deadline is None else call.deadline - _SPARED * service.spare.seconds
    try:
        answer = await service.answers.do(lambda: listed(reasons, second_stage), by)
    except LateError:
        service.metrics.shed("list")
        words = "a list of one's own would not be there in time, so these are the items that most people took"
        answer, notes = await service.spare.do(lambda: popular(_can_wait(call))), [words]
    service.metrics.known(answer.events)
    return answer, notes


def _can_wait(call: Call) -> bool:
    """Whether what a popular list takes is left before the deadline of a call."""
    return call.deadline is None or time.perf_counter() + call.service.spare.seconds < call.deadline


async def answered(call: Call, asked: Question) -> tuple[Recommendations, list[str]]:
    """The list that is asked for by the deadline of a call, and what was left out for it, in sentences.

    A search takes as long as it takes, unless the call says how long it waits: a popular list is no answer to words,
    and the first ones of a generation take a second. Photos have a thread of their own. Recommendations are those of
    an experiment where one runs that their person is in, which ``call.within`` tells then.
    """
    service, call.within = call.service, None
    if isinstance(asked, SearchRequest) and (asked.image is not None or "prefer" not in call.request.headers):
        threads = service.answers if asked.image is None else service.photos
        return await threads.do(lambda: ask(service.recommender, asked)), []

    def listed(explain: bool, rerank: bool) -> Recommendations:
        return ask(service.recommender, asked, explain=explain, rerank=rerank)

    def instead(hide: bool) -> Recommendations:
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


def list_answer(answer: Recommendations, notes: Sequence[str] = ()) -> ListAnswer:
    """An answer as it goes over the wire to a server."""
    return ListAnswer(
        recommendation_id=answer.request_id,
        generation=answer.generation,
        basis=answer.basis,
        known=answer.basis != POPULARITY,
        items=[answered_item(item, answer.fields) for item in answer.items],
        notes=[*answer.notes, *notes],
        shortfall=answer.shortfall,
        events=answer.events,
        objective=answer.objective,
        milliseconds=dict(answer.timings_ms),
    )


def list_of(asked: Question, answer: Recommendations, notes: Sequence[str]) -> ListAnswer:
    """The answer to a question, with what it was answered without; ``notes`` say what was left out for lack of time."""
    told = list_answer(answer)
    if isinstance(asked, SearchRequest):
        told.known = any(PERSONAL in item.parts for item in answer.items)
    if answer.basis == POPULARITY and not notes:
        told.notes.append(f"{_MISSING[type(asked)]}, so these are the items that most people took")
    if isinstance(asked, SearchRequest) and not told.known and who(asked) != (None, None):
        told.notes.append("nothing is known of who asks, so the list is as it is for anybody")
    told.notes += notes
    return told


def reply(
    call: Call, told: ListAnswer, asked: Any, question: Question | None = None, before: Shown | None = None
) -> Reply:
    """The reply with a list, which is kept unless it was asked for as a dry run.

    Args:
        call: What is answered.
        told: The list.
        asked: What was asked, with ``k``, ``placement`` and ``dry_run``.
        question: What its next page is asked by; None: it has none.
        before: The page before; its list goes on.
    """
    told.placement, kept = asked.placement, call.service.shown
    if (within := call.within) is not None:
        told.experiment = within.told
        within.record(compare=call.service.answers.effort == Effort.FULL)
        question = question and within.question
        if told.experiment is not None:
            call.service.metrics.of_experiment(told.experiment.name, told.experiment.arm)
    elif before is not None and before.experiment is not None:
        told.experiment = before.experiment
    chances = propensities_of(told) if isinstance(asked, RecommendationRequest) else {}
    if kept.problem is not None:
        told.notes.append(kept.problem)
    if call.key.of_browsers:
        redact_for_pages(told)
    if asked.dry_run or not kept.seconds:
        told.recommendation_id = None if asked.dry_run else told.recommendation_id
        return Reply(told)
    assert told.recommendation_id is not None
    items = [*(() if before is None else before.items), *[item.item_id for item in told.items]]
    further = told.experiment is None or told.experiment.arm != INTERLEAVED
    if question is not None and further and len(told.items) == question.k and len(items) < limits.K:
        told.next = f"/v1/recommendations/{told.recommendation_id}/next"
    body = encode(told)
    events = told.events if before is None else before.events
    question = named(question, call.service.names) if question is not None and told.next else None
    about = told.generation, events, items, call.key.of_browsers, told.placement, told.experiment, chances
    kept.keep(Shown(told.recommendation_id, body, question, *about, told))
    return Reply(told, encoded=body)


def answered_item(item: Recommendation, fields: Sequence[str] = ()) -> AnsweredItem:
    """An item of a list as it goes over the wire, with some of its attributes."""
    return AnsweredItem(
        item_id=item.item_id,
        rank=item.rank,
        title=item.title,
        score=item.score,
        parts=dict(item.parts),
        rule=item.rule,
        reasons=list(item.reasons),
        propensity=item.propensity,
        similarity=item.similarity,
        fields={name: item.payload.get(name) for name in fields} if fields else {},
    )
