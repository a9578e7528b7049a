"""What the server does, for Prometheus."""

import asyncio

from starlette.responses import Response

from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.metrics import MEDIA_TYPE


async def metrics(call: Call) -> Reply:
    """Requests, seconds, what was shed, events, the generation's age: of all workers, as Prometheus reads it."""
    page = await asyncio.to_thread(call.service.metrics.page, call.service)
    return Reply(Response(page, media_type=MEDIA_TYPE))


ENDPOINTS = (Endpoint("GET", "/metrics", "admin", "What the server does, for Prometheus", metrics),)
