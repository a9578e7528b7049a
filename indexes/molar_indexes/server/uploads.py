"""What of a generation goes to a server: its items, and its users where they are to be there."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qdrant_client import models

from molar_indexes.generations import Generation
from molar_indexes.server import users as people
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.filters import ROW_PATH, items_between, users_between
from molar_indexes.server.layout import Layout, payload_indexes
from molar_indexes.server.metadata import CollectionMetadata
from molar_indexes.server.points import to_point
from molar_indexes.server.published import name_of
from molar_indexes.server.upload import Between, Read


@dataclass(frozen=True)
class Upload:
    """Items or users on their way to a collection of their own."""

    alias: str
    metadata: CollectionMetadata
    create: Callable[[dict[str, Any]], dict[str, Any]]
    indexes: dict[str, models.PayloadSchemaType]
    read: Read
    between: Between

    @property
    def name(self) -> str:
        """The collection's, which follows from what it holds."""
        return name_of(self.alias, self.metadata)


def uploads_of(generation: Generation, server: ServerConfig, layout: Layout) -> list[Upload]:
    """Items, and users where the server has them."""
    spec, names = generation.spec, [*generation.spec.dims, *generation.spec.sparse]

    def read(first: int, last: int) -> list[models.PointStruct]:
        return [to_point(spec, item) for item in generation.index.fetch(range(first, last), vectors=names)]

    own = CollectionMetadata.of(generation, layout, "items")
    create = partial(layout.collection, spec)
    items = Upload(server.collection, own, create, payload_indexes(spec), read, items_between)
    if server.users != "server":
        return [items]
    own = CollectionMetadata.of(generation, layout, "users")
    create, read_users = partial(people.collection, spec, layout), partial(people.read, generation.users)
    rows = {ROW_PATH: models.PayloadSchemaType.INTEGER}
    return [items, Upload(server.people, own, create, rows, read_users, users_between)]
