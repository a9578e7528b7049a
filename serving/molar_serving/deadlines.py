"""By when there must be an answer, and what comes where the whole of it would be late.

That is what the server allows, or less, by ``Prefer: wait=50ms`` (RFC 7240).
"""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request

from molar_serving.endpoint import Call
from molar_serving.working import Effort, LateError

if TYPE_CHECKING:
    from molar_retrieval.ranking.results import Answer

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,6})?)(ms|s)?\"?\s*(?:$|[,;])", re.IGNORECASE)
_SPARED = 3  # times what a popular list takes: left before the deadline to make one


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
    call: Call, listed: "Callable[[bool, bool], Answer]", popular: "Callable[[bool], Answer]", *, explain: bool
) -> "tuple[Answer, list[str]]":
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
