"""Photos of items, sent as they are; none is fetched from an address."""

from molar_retrieval import limits
from molar_retrieval.columns import IMAGE
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.endpoints.items import AppendedChange, schema_of, state_of, unknown
from molar_serving.problems import ProblemError
from molar_serving.wire_items import PhotoAnswer


async def put_photo(call: Call) -> Reply:
    """Keep the photo of an item; searches and vectors have it after the next `molar update`."""
    return Reply(await call.service.appends.do(lambda: _kept(call)))


def _kept(call: Call) -> PhotoAnswer:
    from molar_retrieval.data.images import ImageError, keep_photo

    service, item_id = call.service, call.path["item_id"]
    state = state_of(service, item_id)
    if state is None:
        raise unknown(item_id)
    if not call.body:
        raise ProblemError(422, "the body is empty", "send the file of a photo")
    try:
        image = keep_photo(service.workspace.catalogue, item_id, call.body)
    except ImageError as error:
        raise ProblemError(422, error.reason, "send another photo") from error
    if IMAGE in schema_of(service).names:  # else photos are looked for by the ids of items
        service.append([AppendedChange(item_id, {IMAGE: image}).event()])
    call.audit |= {"image": image}
    return PhotoAnswer(item_id=item_id, state=state, image=image)


ENDPOINTS = (
    Endpoint(
        "PUT",
        "/v1/photos/{item_id:path}",
        "catalogue",
        "The photo of an item, sent as it is",
        put_photo,
        reply=PhotoAnswer,
        media=("image/*",),
        most=limits.PHOTO,
        changes=True,
    ),
)
