"""The gRPC side of :mod:`qdrant_fake`: qdrant-client's in-process mode behind gRPC, by the client's own conversions."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import grpc as g
from qdrant_client import QdrantClient
from qdrant_client import grpc as pb
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

DONE = pb.UpdateResult(operation_id=0, status=pb.UpdateStatus.Completed)


class _Root(qdrant_pb2_grpc.QdrantServicer):
    def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's names)
        return pb.HealthCheckReply(title="qdrant - vector search engine", version=metadata.version("qdrant-client"))


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
        return pb.GetResponse(result=[RestToGrpc.convert_retrieved_point(record) for record in found])

    def scroll(request: Any) -> Any:
        found, _ = client.scroll(
            request.collection_name,
            scroll_filter=optional(request, "filter", GrpcToRest.convert_filter),
            order_by=optional(request, "order_by", GrpcToRest.convert_order_by),
            limit=request.limit,
            **selected(request),
        )
        return pb.ScrollResponse(result=[RestToGrpc.convert_retrieved_point(record) for record in found])

    def count(request: Any) -> Any:
        found = client.count(request.collection_name, optional(request, "filter", GrpcToRest.convert_filter))
        return pb.CountResponse(result=pb.CountResult(count=found.count))

    def query(request: Any) -> Any:
        found = client.query_points(
            request.collection_name,
            query=GrpcToRest.convert_query(request.query).nearest,
            using=request.using,
            query_filter=optional(request, "filter", GrpcToRest.convert_filter),
            search_params=optional(request, "params", GrpcToRest.convert_search_params),
            limit=request.limit,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
        )
        return pb.QueryResponse(result=[RestToGrpc.convert_scored_point(point) for point in found.points])

    return {
        "Upsert": upsert,
        "CreateFieldIndex": lambda r: pb.PointsOperationResponse(result=DONE),
        "Get": get,
        "Scroll": scroll,
        "Count": count,
        "Query": query,
    }


def _servicer(base: type, answers: dict[str, Callable[[Any], Any]], asked: list[str]) -> Any:
    def method(name: str, answer: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def called(self: Any, request: Any, context: Any) -> Any:
            asked.append(name)
            return answer(request)

        return called

    return type("Servicer", (base,), {name: method(name, answer) for name, answer in answers.items()})()


@contextmanager
def fake_grpc() -> Iterator[tuple[int, QdrantClient, list[str]]]:
    """A server of its own: its port, what is behind it, and the names of the methods that were called."""
    client, asked = QdrantClient(":memory:"), []
    server = g.server(ThreadPoolExecutor(1))  # the in-process mode takes one writer at a time
    qdrant_pb2_grpc.add_QdrantServicer_to_server(_Root(), server)
    collections = _servicer(collections_service_pb2_grpc.CollectionsServicer, _collections(client), asked)
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(collections, server)
    points = _servicer(points_service_pb2_grpc.PointsServicer, _points(client), asked)
    points_service_pb2_grpc.add_PointsServicer_to_server(points, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, client, asked
    finally:
        server.stop(None)
        client.close()
