"""Writes the demo shop as a catalogue folder, just as somebody would bring theirs."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from molar_retrieval import rng as seeds
from molar_retrieval.demo.photos import Appearance, draw
from molar_retrieval.demo.plan import ITEMS, SEED, USERS, plan_shop
from molar_retrieval.demo.tables import interactions_table, items_table, photo_path, users_table
from molar_retrieval.demo.truth import DemoShop, Shopper
from molar_retrieval.demo.vocabulary import packaged
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Progress

_README = packaged("README.template.txt")
NOTICE = _README.partition("\n")[0]  # the sentence by which a folder is known as a demo shop


@dataclass(frozen=True)
class DemoFacts:
    """What was written.

    Attributes:
        interactions: How many purchases there are.
        cold_items: Items that nobody has bought yet.
        without_history: Users who have not bought anything yet.
        example_user: A user with a history and distinct tastes.
        new_user: A user without any history.
    """

    folder: Path
    seed: int
    items: int
    users: int
    interactions: int
    without_photo: int
    without_description: int
    cold_items: int
    without_history: int
    example_user: str
    new_user: str
    notice: str = NOTICE


def write_demo_shop(
    folder: Path,
    *,
    seed: int = SEED,
    items: int = ITEMS,
    users: int = USERS,
    arriving: bool = False,
    progress: Progress = SILENT,
) -> DemoFacts:
    """Write the made-up demo shop; the same arguments give the same bytes.

    Items that nobody has bought yet are not in the items file where they are ``arriving``: they come by events, see
    :mod:`molar_retrieval.demo.days`.

    The folder is new or empty, or has an earlier demo shop, which is replaced; all else in it is a DataError. Fewer
    than 40 items or 20 users are a SettingsError.
    """
    shop = plan_shop(seed, items=items, users=users)
    _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README.format(seed=seed), "utf-8", newline="\n")  # first: it marks it as ours
    (folder / "catalog.toml").write_text(packaged("catalog.template.toml"), "utf-8", newline="\n")
    _write_photos(shop, folder, progress)
    there = replace(shop, items=tuple(item for item in shop.items if not (arriving and item.cold)))
    pq.write_table(items_table(there), folder / "items.parquet")
    pq.write_table(interactions_table(shop), folder / "interactions.parquet")
    pq.write_table(users_table(shop), folder / "users.parquet")
    return _facts(shop, folder)


def _clear(folder: Path) -> None:
    """Make way for a new shop, but never for anything that is not one of ours."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    readme = folder / "README.txt"
    if not (readme.is_file() and readme.read_text("utf-8", errors="replace").startswith(NOTICE)):
        raise DataError(f"{folder} holds something that is not the demo shop", "name a new or an empty folder")
    shutil.rmtree(folder / "images", ignore_errors=True)


def _write_photos(shop: DemoShop, folder: Path, progress: Progress) -> None:
    (folder / "images").mkdir()
    shown = [item for item in shop.items if item.has_photo]
    progress.start("drawing the demo shop", len(shown))
    for item in shown:
        look = Appearance(item.kind, item.colour, item.pattern)
        photo = draw(look, seeds.generator(shop.seed, "demo", "photo", item.item_id))
        photo.save(folder / photo_path(item), quality=82)
        progress.advance()
    progress.finish()


def _facts(shop: DemoShop, folder: Path) -> DemoFacts:
    return DemoFacts(
        folder=folder,
        seed=shop.seed,
        items=len(shop.items),
        users=len(shop.users),
        interactions=sum(len(user.purchases) for user in shop.users),
        without_photo=sum(not item.has_photo for item in shop.items),
        without_description=sum(not item.has_description for item in shop.items),
        cold_items=sum(item.cold for item in shop.items),
        without_history=sum(not user.purchases for user in shop.users),
        example_user=_example(shop.users).user_id,
        new_user=next(user.user_id for user in shop.users if not user.purchases),
    )


def _example(users: Sequence[Shopper]) -> Shopper:
    """Somebody with both tastes and a history of middling length; else whoever bought most."""
    fitting = (user for user in users if user.pattern and user.story and 8 <= len(user.purchases) <= 14)
    return next(fitting, max(users, key=lambda user: len(user.purchases)))
