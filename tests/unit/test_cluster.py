"""Which cluster is meant, who does the work, and what is said where there is none; none of it needs Ray."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from copies import copy_workspace

import molar
from molar.clustering import address_of, ranks_of, runner_of
from molar.doctor.cluster import cluster
from molar.doctor.health import HealthState
from molar_retrieval.errors import BackendError, MissingArtefactError, SettingsError
from molar_retrieval.workspace import ray_jobs
from molar_retrieval.workspace.jobs import SerialRunner
from molar_retrieval.workspace.ray_jobs import ClusterAccess, ClusterAddress, RayRunner
from molar_retrieval.workspace.settings import ClusterSettings

TOKEN = "0123"


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """Where something answers as a cluster does that asks for a token, and one that asks for none."""

    def door(asks: bool) -> Callable[[bytes, Any], bytes]:
        def answered(_: bytes, context: Any) -> bytes:
            if asks and ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is due")
            return b""

        return answered

    servers, found = [], {}
    for name, asks in (("guarded", True), ("open", False)):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(door(asks))
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("ray.rpc.RayletDriver", {"ClusterInfo": handler})]
        )
        found[name] = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
    yield found
    for server in servers:
        server.stop(None)


@pytest.fixture
def shop(tmp_path: Path) -> molar.Shop:
    (tmp_path / ".molar").mkdir()
    return molar.Shop(workspace=tmp_path / ".molar", catalogue=None)


def test_a_door_is_open_guarded_or_not_there(ports: dict[str, int], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    guarded, opened = (ClusterAddress(f"ray://127.0.0.1:{ports[name]}") for name in ("guarded", "open"))
    assert (guarded.access(), opened.access()) == (ClusterAccess.REFUSED, ClusterAccess.OPEN)
    assert ClusterAddress("ray://127.0.0.1:1").access() is ClusterAccess.UNREACHABLE
    ClusterAddress(guarded.url, tmp_path / "token").require()
    opened.require()
    with pytest.raises(BackendError, match="asks for a token"):
        guarded.require()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    with pytest.raises(BackendError, match="refuses this token"):
        guarded.require()
    with pytest.raises(BackendError, match="does not answer"):
        ClusterAddress("ray://127.0.0.1:1").require()
    assert ClusterAddress("ray://[::1]").netloc == "[::1]:10001"


@pytest.mark.parametrize("wrong", ["http://host:10001", "host:10001", "ray://", "ray://me:secret@host"])
def test_an_address_is_one_of_ray(shop: molar.Shop, wrong: str) -> None:
    with pytest.raises(SettingsError, match="ray://host:10001 is due"):
        address_of(shop, wrong)
    with pytest.raises(ValueError, match="ray://host:10001 is due"):
        ClusterSettings(address=wrong)


def test_which_cluster_is_meant(shop: molar.Shop, monkeypatch: Any, user_configuration: Any) -> None:
    with pytest.raises(MissingArtefactError, match="no cluster is named"):
        address_of(shop, "cluster")
    user_configuration('[cluster]\naddress = "ray://b:10001/"\ntoken_file = "t"\n')
    assert address_of(shop, "cluster") == ClusterAddress("ray://b:10001", Path("t"))
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", "ray://c:10001")
    assert address_of(shop, "cluster") == ClusterAddress("ray://c:10001", Path("t"))
    assert address_of(shop, "ray://c:10001") == ClusterAddress("ray://c:10001", Path("t"))
    assert address_of(shop, "ray://other:10001") == ClusterAddress("ray://other:10001"), "the token is for the first"


def test_a_cluster_is_used_where_it_is_asked_for(shop: molar.Shop, monkeypatch: Any) -> None:
    monkeypatch.setattr(ray_jobs, "require_ray", lambda: None)
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", "ray://127.0.0.1:10001")
    here = SerialRunner()
    assert runner_of(shop, None, here) is here
    assert ranks_of(shop, None) is None
    assert isinstance(runner_of(shop, "cluster", here), RayRunner)


def test_calls_that_name_a_cluster(trained: Any, tmp_path: Path) -> None:
    shop = molar.Shop(trained.shop, trained.workspace)
    with pytest.raises(MissingArtefactError, match="no cluster is named"):
        shop.recommend(tmp_path / "lists.parquet", cluster="cluster")
    with pytest.raises(SettingsError, match="processes would change nothing"):
        shop.recommend(tmp_path / "lists.parquet", processes=2, cluster="cluster")
    with pytest.raises(SettingsError, match="cluster would change nothing"):
        shop.embed(vectors=tmp_path / "vectors.parquet", cluster="cluster")
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_error_names_the_extra(shop: molar.Shop, monkeypatch: Any) -> None:
    monkeypatch.setattr("molar_retrieval.workspace.ray_jobs.find_spec", lambda name: None)
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", "ray://127.0.0.1:10001")
    for attempt in (lambda: runner_of(shop, "cluster", SerialRunner()), lambda: ranks_of(shop, "cluster")):
        with pytest.raises(BackendError, match="Ray, which is not installed") as caught:
            attempt()
        assert "pip install 'molar-retrieval[cluster]'" in caught.value.hint


def test_ray_is_imported_by_nobody_else() -> None:
    modules = "molar.clustering, molar_cli.app, molar_retrieval.models.towers.ray_training"
    code = f"import sys, {modules}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("door", "state", "said"),
    [
        ("guarded", HealthState.FINE, None),
        ("open", HealthState.WARNING, "asks for no token"),
        (None, HealthState.WARNING, "does not answer"),
    ],
)
def test_the_doctor_knocks(
    shop: molar.Shop, ports: dict[str, int], door: str | None, state: HealthState, said: str | None, monkeypatch: Any
) -> None:
    assert list(cluster(shop.workspace)) == []
    token = shop.workspace.with_name("token")
    token.write_text(TOKEN)
    token.chmod(0o600)
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", f"ray://127.0.0.1:{1 if door is None else ports[door]}")
    monkeypatch.setenv("MOLAR_CLUSTER_TOKEN_FILE", str(token))
    found = {one.name: one for one in cluster(shop.workspace)}
    assert found["address"].state is state
    assert said is None or said in str(found["address"].problem)
    assert found["token"].state is HealthState.FINE
    token.chmod(0o644)
    assert {one.name: one.state for one in cluster(shop.workspace)}["token"] is HealthState.WARNING


def test_who_does_the_work_is_passed_on(
    trained: Any, tmp_path: Path, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_workspace(trained.workspace, tmp_path / ".molar")
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", f"ray://127.0.0.1:{ports['guarded']}")
    place, asked = molar.Shop(trained.shop, tmp_path / ".molar"), Mock(return_value=None)
    monkeypatch.setattr(ray_jobs, "require_ray", lambda: None)
    for module, call in (("aligning", "align"), ("updating", "update")):
        monkeypatch.setattr(f"molar.{module}.{call}", asked)
        getattr(place, call)(cluster="cluster")
        named = asked.call_args.kwargs
        assert isinstance(named["reading"], RayRunner)
        assert call == "update" or named["group"].ranks is None
    (tmp_path / "other.toml").write_text("[cluster]\nranks = 2\n")
    molar.Shop(trained.shop, tmp_path / ".molar", tmp_path / "other.toml").align(cluster="cluster")
    assert asked.call_args.kwargs["group"].ranks == 2
    place.align()
    assert asked.call_args.kwargs["group"] is None
    monkeypatch.setattr("molar_indexes.server.push.push", asked)
    place.push(to="http://127.0.0.1:1", cluster="cluster")
    assert isinstance(asked.call_args.kwargs["runner"], RayRunner)
