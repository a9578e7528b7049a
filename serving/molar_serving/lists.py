"""Lists as they go over the wire, and what is kept of them."""

from collections.abc import Sequence
from typing import Any

from molar_indexes.answers import POPULARITY
from molar_indexes.search import PERSONAL
from molar_retrieval import limits
from molar_retrieval.columns import IMAGE, TITLE
from molar_retrieval.errors import shown, suggestion
from molar_retrieval.experiments.definition import INTERLEAVED
from molar_retrieval.ranking.results import Answer, Recommendation
from molar_serving.asking import Question, named, who
from molar_serving.discretion import discreet
from molar_serving.endpoint import Call, Reply, encode
from molar_serving.propensities import propensities_of
from molar_serving.shown import Shown
from molar_serving.wire import (
    AnsweredItem,
    ListAnswer,
    RecommendationRequest,
    SearchRequest,
    SimilarRequest,
    SimpleParameters,
)
from molar_serving.working import Effort

_NAMED = 3  # unknown fields that notes name
_MISSING: dict[type[Question], str] = {
    RecommendationRequest: "nothing is known of who asks",
    SearchRequest: "nothing is left to search by",
    SimilarRequest: "nothing is known of the item",
}


def list_answer(
    call: Call,
    answer: Answer,
    fields: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ListAnswer:
    """An answer as it goes over the wire to a server.

    A field that the catalogue does not have is null, and a note says so: no page breaks where a column was renamed.
    """
    return ListAnswer(
        recommendation_id=answer.request_id,
        generation=answer.generation,
        basis=answer.basis,
        known=answer.basis != POPULARITY,
        items=[answered_item(item, fields) for item in answer.items],
        notes=[*answer.notes, *_missing(call, fields), *notes],
        shortfall=answer.shortfall,
        events=answer.events,
        objective=answer.objective,
        milliseconds=dict(answer.timings_ms),
    )


def list_of(call: Call, asked: Question, answer: Answer, notes: Sequence[str]) -> ListAnswer:
    """The answer to a question, with what it was answered without; ``notes`` say what was left out for lack of time."""
    told = list_answer(call, answer, asked.fields)
    if isinstance(asked, SearchRequest):
        told.known = any(PERSONAL in item.parts for item in answer.items)
    if answer.basis == POPULARITY and not notes:
        told.notes.append(f"{_MISSING[type(asked)]}, so these are the items that most people took")
    if isinstance(asked, SearchRequest) and not told.known and who(asked) != (None, None):
        told.notes.append("nothing is known of who asks, so the list is as it is for anybody")
    told.notes += notes
    return told


def given(parameters: SimpleParameters) -> dict[str, Any]:
    """The parameters of an address as the fields of a body."""
    found = {name: getattr(parameters, name) for name in parameters.__struct_fields__}
    return found | {"fields": [name.strip() for name in parameters.fields.split(",") if name.strip()]}


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
        discreet(told)
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


def _missing(call: Call, fields: Sequence[str]) -> list[str]:
    if not fields:
        return []
    known = {*call.service.recommender.generation.spec.fields, TITLE, IMAGE}
    unknown = [name for name in fields if name not in known][:_NAMED]
    remedies = [suggestion(name, known, "name an attribute of the items") for name in unknown]
    return [
        f"the catalogue has no field {shown(name)}, so it is null: {remedy}"
        for name, remedy in zip(unknown, remedies, strict=True)
    ]


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
