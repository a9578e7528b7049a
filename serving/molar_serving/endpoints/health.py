"""Whether the server lives, and whether it answers."""

from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.threads import threads_down
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.wire import Alive


async def live(call: Call) -> Reply:
    """The process answers; more is not asked."""
    return Reply(Alive(status="ok"))


async def ready(call: Call) -> Reply:
    """A generation is open and answers, and no background thread of the process is down."""
    try:
        generation = call.service.recommender.generation.name
    except MolarError as error:
        return Reply(Alive(status="unavailable", reason=f"{error.message}; {error.hint}"), 503, {"Retry-After": "1"})
    if down := threads_down():
        reason = f"the background thread {', '.join(down)} died and is started again; the server's log says why"
        return Reply(Alive(status="unavailable", generation=generation, reason=reason), 503, {"Retry-After": "1"})
    return Reply(Alive(status="ok", generation=generation))


ENDPOINTS = (
    Endpoint("GET", "/health/live", None, "Whether the process lives", live, reply=Alive),
    Endpoint("GET", "/health/ready", None, "Whether it answers", ready, reply=Alive),
)
