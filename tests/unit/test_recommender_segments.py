"""People chosen by what is known of them: rules for some of them, lists for some of them."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace

from molar_indexes.batch import recommend
from molar_indexes.comparison import conflicts_of
from molar_indexes.constraints import Constraints
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_retrieval.errors import DataError, RequestError, SettingsError
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

K = 5
SEGMENTS = IndexSettings(segments=("country", "age"))


@pytest.fixture(scope="module")
def shop(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A copy of the trained shop whose users have countries, ages and secrets."""
    root = tmp_path_factory.mktemp("segments")
    shutil.copytree(trained.shop, root / "shop")
    copy_workspace(trained.workspace, root / ".molar", ignore=shutil.ignore_patterns("workspace.json"))
    with Recommender.open(trained.workspace) as recommender:
        users = [user.user_id for batch in recommender.generation.users.batches() for user in batch]
    countries = [["JP", "DE", None][n % 3] for n in range(len(users))]
    table = {"user_id": users, "country": countries, "age": list(range(len(users))), "secret": ["x"] * len(users)}
    for old in (root / "shop").glob("users.*"):
        old.unlink()
    pq.write_table(pa.table(table), root / "shop" / "users.parquet")
    workspace = Workspace.for_catalogue(root / ".molar", root / "shop")
    publish_generation(workspace, SEGMENTS).close()
    return root / ".molar", root / "shop", users


def test_only_the_named_columns_are_kept(shop: tuple[Path, Path, list[str]]) -> None:
    workspace, _, users = shop
    with Recommender.open(workspace) as recommender:
        assert recommender.generation.manifest.facts["segments"] == {"country": "keyword", "age": "integer"}
        known = [recommender.generation.users.get(user).attributes for user in users[:3]]
    assert known == [{"country": "JP", "age": 0}, {"country": "DE", "age": 1}, {"age": 2}]
    assert b"secret" not in (next((workspace / "generations").glob("2*/users.sqlite"))).read_bytes()


def test_a_rule_for_nobody_is_told_as_such(shop: tuple[Path, Path, list[str]]) -> None:
    workspace, _, _ = shop
    rules = [{"boost": "price > 0", "for": segment} for segment in ("country = JP", "country = Atlantis", "age < 9")]
    with Recommender.open(workspace) as recommender:
        told = conflicts_of(recommender.generation, Constraints(recommender.generation, {"rule": rules}))
    assert [(one.kind, one.rules, one.what) for one in told] == [("nobody", (1,), "country = Atlantis")]


def test_a_rule_is_for_those_whom_it_names(shop: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    workspace, _, users = shop
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nrequire = 'category = Shoes'\nfor = 'country = JP and age >= 0'\n", "utf-8")
    with Recommender.open(workspace, rules=rules) as recommender:
        kinds = [{i.payload["category"] for i in recommender.query(user, k=K).items} for user in users[:6]]
        assert [kind == {"Shoes"} for kind in kinds] == [True, False, False, True, False, False]
        stored = [recommender.generation.users.get(user) for user in users[:6]]
        for user, listing in zip(users[:6], recommender.rank_many(stored, Query(k=K)), strict=True):
            same = [recommender.generation.table.item_id(p.row) for p in listing.places]
            assert same == [item.item_id for item in recommender.query(user, k=K).items]
    rules.write_text("[[rule]]\nrequire = 'category = Shoes'\nfor = 'secret = x'\n", "utf-8")
    with Recommender.open(workspace, rules=rules) as recommender, pytest.raises(SettingsError, match="secret"):
        recommender.query(users[0], k=K)


def test_lists_of_a_segment(shop: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    workspace, _, users = shop
    report = recommend(workspace, tmp_path / "jp.parquet", k=2, segment="country = JP and age < 9")
    assert list(dict.fromkeys(pq.read_table(tmp_path / "jp.parquet")["user_id"].to_pylist())) == users[0:9:3]
    assert report.users == 3
    assert report.skipped == len(users) - 3


def test_other_attributes_make_another_generation(shop: tuple[Path, Path, list[str]]) -> None:
    root, folder, users = shop
    workspace = Workspace.for_catalogue(root, folder)
    before = publish_generation(workspace, SEGMENTS).name
    assert publish_generation(workspace, SEGMENTS).name == before
    table = {"user_id": users[:2], "country": ["FR", "FR"], "age": [1.5, None]}
    pq.write_table(pa.table(table), folder / "users.parquet")
    with publish_generation(workspace, SEGMENTS) as after:
        assert after.name != before
        assert after.users.get(users[0]).attributes == {"country": "FR", "age": 1.5}


def test_what_is_not_there_is_named(shop: tuple[Path, Path, list[str]], trained: Any, tmp_path: Path) -> None:
    root, folder, _ = shop
    workspace = Workspace.for_catalogue(root, folder)
    with pytest.raises(DataError, match="contry"):
        publish_generation(workspace, IndexSettings(segments=("contry",)))
    with pytest.raises(RequestError, match="nothing is known"):
        recommend(trained.workspace, tmp_path / "x.parquet", segment="country = JP")
    (folder / "users.parquet").unlink()
    with pytest.raises(DataError, match="no users file"):
        publish_generation(workspace, SEGMENTS)
