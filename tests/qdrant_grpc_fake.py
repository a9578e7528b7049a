"""The gRPC side of :mod:`qdrant_fake`: qdrant-client's in-process mode behind gRPC, by the client's own conversions.

Requests are recorded as ``GRPC Method``, and meet faults under that name: their acts, delays and refusals.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch

import grpc as g
from qdrant_client import QdrantClient
from qdrant_client import grpc as pb
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc
from qdrant_fake import Asked, FakeQdrant, fake_qdrant
from qdrant_limits import MET

from molar_indexes.server import client as server_client

DONE = pb.UpdateResult(operation_id=0, status=pb.UpdateStatus.Completed)
_CODES = {401: g.StatusCode.UNAUTHENTICATED, 403: g.StatusCode.PERMISSION_DENIED, 429: g.StatusCode.RESOURCE_EXHAUSTED}


def _root(fake: FakeQdrant) -> dict[str, Callable[[Any], Any]]:
    title = "qdrant - vector search engine"
    return {"HealthCheck": lambda _: pb.HealthCheckReply(title=title, version=fake.version)}


def _collections(client: QdrantClient) -> dict[str, Callable[[Any], Any]]:
    def create(request: Any) -> Any:
        sparse = request.sparse_vectors_config
        client.create_collection(
            request.collection_name,
            GrpcToRest.convert_vectors_config(request.vectors_config),
            sparse_vectors_config=GrpcToRest.convert_sparse_vector_config(sparse),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        return pb.CollectionOperationResponse(result=True)

    def update(request: Any) -> Any:
        client.update_collection(request.collection_name, metadata=GrpcToRest.convert_payload(request.metadata))
        return pb.CollectionOperationResponse(result=True)

    def aliases(request: Any) -> Any:
        client.update_collection_aliases([GrpcToRest.convert_alias_operations(one) for one in request.actions])
        return pb.CollectionOperationResponse(result=True)

    return {
        "Create": create,
        "Update": update,
        "UpdateAliases": aliases,
        "Delete": lambda r: pb.CollectionOperationResponse(result=client.delete_collection(r.collection_name)),
        "Get": lambda r: pb.GetCollectionInfoResponse(
            result=RestToGrpc.convert_collection_info(client.get_collection(r.collection_name))
        ),
        "List": lambda r: pb.ListCollectionsResponse(
            collections=[pb.CollectionDescription(name=one.name) for one in client.get_collections().collections]
        ),
        "ListAliases": lambda r: pb.ListAliasesResponse(
            aliases=[RestToGrpc.convert_alias_description(one) for one in client.get_aliases().aliases]
        ),
        "CollectionExists": lambda r: pb.CollectionExistsResponse(
            result=pb.CollectionExists(exists=client.collection_exists(r.collection_name))
        ),
    }


def _points(client: QdrantClient) -> dict[str, Callable[[Any], Any]]:
    def optional(request: Any, name: str, convert: Callable[[Any], Any]) -> Any:
        return convert(getattr(request, name)) if request.HasField(name) else None

    def upsert(request: Any) -> Any:
        client.upsert(request.collection_name, [GrpcToRest.convert_point_struct(point) for point in request.points])
        return pb.PointsOperationResponse(result=DONE)

    def selected(request: Any) -> dict[str, Any]:
        return {
            "with_payload": GrpcToRest.convert_with_payload_selector(request.with_payload),
            "with_vectors": GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        }

    def get(request: Any) -> Any:
        ids = [GrpcToRest.convert_point_id(one) for one in request.ids]
        found = client.retrieve(request.collection_name, ids, **selected(request))
        return pb.GetResponse(result=_retrieved(found))

    def scroll(request: Any) -> Any:
        found, _ = client.scroll(
            request.collection_name,
            scroll_filter=optional(request, "filter", GrpcToRest.convert_filter),
            order_by=optional(request, "order_by", GrpcToRest.convert_order_by),
            limit=request.limit,
            **selected(request),
        )
        return pb.ScrollResponse(result=_retrieved(found))

    def count(request: Any) -> Any:
        found = client.count(request.collection_name, optional(request, "filter", GrpcToRest.convert_filter))
        return pb.CountResponse(result=pb.CountResult(count=found.count))

    def queried(request: Any) -> list[Any]:
        found = client.query_points(
            request.collection_name,
            query=GrpcToRest.convert_query(request.query).nearest,
            using=request.using,
            query_filter=optional(request, "filter", GrpcToRest.convert_filter),
            search_params=optional(request, "params", GrpcToRest.convert_search_params),
            limit=request.limit,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
        )
        return [RestToGrpc.convert_scored_point(_whole(point)) for point in found.points]

    return {
        "Upsert": upsert,
        "CreateFieldIndex": lambda r: pb.PointsOperationResponse(result=DONE),
        "Get": get,
        "Scroll": scroll,
        "Count": count,
        "Query": lambda r: pb.QueryResponse(result=queried(r)),
        "QueryBatch": lambda r: pb.QueryBatchResponse(
            result=[pb.BatchResult(result=queried(one)) for one in r.query_points]
        ),
    }


def _retrieved(found: list[Any]) -> list[Any]:
    return [RestToGrpc.convert_retrieved_point(_whole(record)) for record in found]


def _whole(point: Any) -> Any:
    """The client's conversion wants a payload."""
    return point.model_copy(update={"payload": point.payload or {}})


def _servicer(base: type, answers: dict[str, Callable[[Any], Any]], fake: FakeQdrant) -> Any:
    def method(name: str, answer: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def called(self: Any, request: Any, context: Any) -> Any:
            key = dict(context.invocation_metadata()).get("api-key")
            fault = fake.striking(Asked("GRPC", name, request.ByteSize(), key, request))
            if fault is not None and fault.act is not None:
                fault.act()
            if fault is not None:
                time.sleep(fault.delay)
            if fault is not None and fault.status is not None:
                context.abort(_CODES.get(fault.status, g.StatusCode.INTERNAL), fault.error)
            if fake.key is not None and key != fake.key and name != "HealthCheck":
                context.abort(g.StatusCode.UNAUTHENTICATED, "Must provide an API key")
            with fake.lock:
                reply = answer(request)
            fake.sent(reply.ByteSize())
            return reply

        return called

    return type("Servicer", (base,), {name: method(name, answer) for name, answer in answers.items()})()


def start(fake: FakeQdrant) -> None:
    """Let a server answer by gRPC at the port after that of REST, again where it was stopped."""
    server = g.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    root = _servicer(qdrant_pb2_grpc.QdrantServicer, _root(fake), fake)
    qdrant_pb2_grpc.add_QdrantServicer_to_server(root, server)
    collections = _servicer(collections_service_pb2_grpc.CollectionsServicer, _collections(fake.client), fake)
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(collections, server)
    points = _servicer(points_service_pb2_grpc.PointsServicer, _points(fake.client), fake)
    points_service_pb2_grpc.add_PointsServicer_to_server(points, server)
    server.add_insecure_port(f"127.0.0.1:{int(fake.url.rsplit(':', 1)[1]) + 1}")
    server.start()
    fake.grpc = server


@contextmanager
def fake_both(version: str = MET) -> Iterator[FakeQdrant]:
    """A server of its own that is asked by REST, and by gRPC at the port after that; it is waited for there."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(server_client, "PATIENCE", 10.0))
        for _ in range(100):
            fake = stack.enter_context(fake_qdrant(version))
            with suppress(RuntimeError):  # somebody has that port
                start(fake)
                break
        yield fake
        fake.grpc.stop(None)
