"""A shop for a device: what is in the folder, what is not, how it is replaced, and the user encoder as ONNX."""

import gzip
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from copies import copy_workspace
from support.person_scan import PersonScan
from typer.testing import CliRunner

import molar
from molar_cli.app import app
from molar_indexes.device import export
from molar_indexes.device import export as device_export
from molar_indexes.device.export import onnx_model
from molar_indexes.recommender import Recommender
from molar_retrieval.errors import BackendError, DataError, RequestError
from molar_retrieval.models.towers.inference import numpy_tower, time_gaps
from molar_retrieval.models.towers.network import TowerShape, tower_of
from molar_retrieval.ranking.rules import Rules
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.tensors import mapped

PUBLISHED = {
    "ort.wasm.bundle.min.js": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm.gz": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
SHAPES = [
    TowerShape(8, 0, 5, 0.0), TowerShape(24, 1, 4, 0.0), TowerShape(64, 3, 20, 0.0), TowerShape(128, 2, 200, 0.0),
    TowerShape(48, 2, 20, 0.0, members=2), TowerShape(24, 0, 20, 0.0, members=3),
]  # fmt: skip


@pytest.fixture(scope="module")
def device(trained, tmp_path_factory):
    """An export of the trained shop."""
    return molar.Shop(trained.shop, trained.workspace).export_device(tmp_path_factory.mktemp("device") / "device")


def manifest_of(folder):
    return json.loads((folder / "device.json").read_text("utf-8"))


def index_of(folder):
    return mapped(folder / manifest_of(folder)["files"]["index"])


def numpy_tower_of(shape):
    torch.manual_seed(shape.dim)
    tower = tower_of(shape).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=shape.dim**-0.5)
    return numpy_tower({name: tensor.numpy() for name, tensor in tower.state_dict().items()})


def test_towers_of_every_shape_are_the_same_as_onnx():
    towers = {f"t{number}": numpy_tower_of(shape) for number, shape in enumerate(SHAPES)}
    session = onnxruntime.InferenceSession(onnx_model(towers), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for length in (1, 2, 3, 200):
        given, right = {}, []
        for name, tower in towers.items():
            count = min(length, tower.history)
            vectors = random.normal(size=(count, tower.dim)).astype(np.float32)
            times = np.sort(random.integers(0, 1 << 31, count))
            given |= {f"{name}.vectors": vectors, f"{name}.gaps": time_gaps(times, tower.buckets).astype(np.int32)}
            right.append(tower(vectors, times))
        for found, own in zip(session.run([f"{name}.user" for name in towers], given), right, strict=True):
            np.testing.assert_allclose(found[0], own, atol=2e-5)


def test_an_encoder_that_computes_otherwise_is_not_exported(trained, tmp_path, monkeypatch):
    sound = export.onnx_model
    monkeypatch.setattr(
        export, "onnx_model", lambda towers: sound({**towers, "content_tower": numpy_tower_of(SHAPES[2])})
    )
    with pytest.raises(BackendError, match="differs by"):
        molar.Shop(trained.shop, trained.workspace).export_device(tmp_path / "device")
    assert not (tmp_path / "device").exists()


def test_the_folder_has_the_items_and_what_ranks_them(trained, device):
    found, told = index_of(device.folder), manifest_of(device.folder)
    with Recommender.open(trained.workspace, follow=False) as recommender:
        table = recommender.generation.table
        assert np.array_equal(found["dense"], table.items.dense)
        assert np.array_equal(found["item_item.items"], table.items.sparse.items)
        assert told["generation"] == device.generation == recommender.generation.name
        assert [recommender.generation.table.item_id(row) for row in found["popular"]] == [
            item.item_id for item in recommender.popular(k=100).items
        ]
        ids = table.item_ids()
    assert (told["digest"], told["items"], device.items) == (device.digest, trained.items, trained.items)
    items = json.loads((device.folder / told["files"]["items"]).read_text("utf-8"))
    assert items["ids"] == ids
    assert items["payload"] == {}
    assert "item_item.support" not in found
    assert device.bytes == sum(path.stat().st_size for path in device.folder.iterdir())


def test_nothing_of_a_person_is_in_it(trained, device):
    """The runtime is as it was published, which another test proves; in so many bytes short ids come by chance."""
    own = [path for path in device.folder.iterdir() if path.name not in PUBLISHED]
    assert len(own) > 8
    for user in (trained.user, trained.new_user):
        person = PersonScan.of(Workspace.open(trained.workspace), user)
        assert person.patterns.names
        states = {Path(one.file).suffix: one.state for one in person.scan(own)}
        assert set(states.values()) <= {"clean", "not proven"}
        assert {suffix for suffix, state in states.items() if state == "not proven"} <= {".onnx"}  # weights alone


def test_the_runtime_is_as_it_was_published_and_has_its_licence():
    folder = Path(device_export.__file__).parent / "runtime"
    for name, digest in PUBLISHED.items():
        content = (folder / name).read_bytes()
        content = gzip.decompress(content) if name.endswith(".gz") else content
        assert hashlib.sha256(content).hexdigest() == digest
    assert {path.name for path in folder.iterdir()} == {*PUBLISHED, "LICENCES.txt"}
    licence = (folder / "LICENCES.txt").read_text("utf-8")
    assert b"v1.30.0" in (folder / "ort.wasm.bundle.min.js").read_bytes()[:100]
    assert "1.30.0" in licence
    assert "MIT" in licence


def test_the_same_again_is_the_same(trained, device, tmp_path):
    again = molar.Shop(trained.shop, trained.workspace).export_device(tmp_path / "device")
    assert again.digest == device.digest
    names = sorted(path.name for path in device.folder.iterdir())
    assert names == sorted(path.name for path in again.folder.iterdir())
    for name in names:
        if name != "device.json":  # when it was made
            assert (again.folder / name).read_bytes() == (device.folder / name).read_bytes()


def test_wherever_it_is_cut_off_the_former_one_answers(trained, tmp_path, monkeypatch):
    shop, out = molar.Shop(trained.shop, trained.workspace), tmp_path / "device"
    first = shop.export_device(out)

    class Killed(BaseException):
        pass

    def cut(*_, **__):
        raise Killed

    for place in ("_data", "_page", "sync_tree", "sync_folder", "write_atomically"):
        with monkeypatch.context() as patched:
            patched.setattr(device_export, place, cut)
            with pytest.raises(Killed):
                shop.export_device(out, fields=["price"])
        assert manifest_of(out)["digest"] == first.digest
        assert all((out / name).exists() for name in manifest_of(out)["files"].values())
    last = shop.export_device(out)
    assert last.digest == first.digest
    assert {path.name for path in out.iterdir()} == {*_needed(out)}
    for place in ("write_atomically", "_data"):
        with monkeypatch.context() as patched:
            patched.setattr(device_export, place, cut)
            with pytest.raises(Killed):
                shop.export_device(tmp_path / "new")
    assert shop.export_device(tmp_path / "new").digest == first.digest


def _needed(folder):
    own = Path(device_export.__file__).parent
    page = [path.name for part in ("static", "runtime") for path in (own / part).iterdir()]
    return ["device.json", *manifest_of(folder)["files"].values(), *page]


def test_what_may_not_come_is_marked_and_an_announced_item_is_not_told(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    with Recommender.open(workspace, follow=False) as recommender:
        table = recommender.generation.table
        cold, known = int(np.flatnonzero(table.items.cold)[0]), int(np.flatnonzero(table.items.known)[3])
        secret, had = table.item_id(cold), table.item_id(known)
        category = recommender.generation.index.fetch([known])[0].payload["category"]
    rules = tmp_path / "rules.toml"
    lines = [f'ban = ["{secret}"]', f'ban = "category = {category}"', 'boost = "price > 10"\nby = 1.0\nname = "dear"']
    rules.write_text("\n".join(f"[[rule]]\n{line}" for line in lines), "utf-8")
    shop = molar.Shop(trained.shop, workspace)
    made = shop.export_device(tmp_path / "device", rules=rules, fields=["category", "price"])
    found, told = index_of(made.folder), manifest_of(made.folder)
    items = json.loads((made.folder / told["files"]["items"]).read_text("utf-8"))
    assert (found["shown"][cold], found["shown"][known]) == (0, 0)
    assert (items["ids"][cold], items["titles"][cold], items["payload"]["category"][cold]) == ("", None, None)
    assert not found["dense"][cold].any()
    assert items["ids"][known] == had  # somebody had it, and a history may name it
    shown = [row for row in range(len(items["ids"])) if found["shown"][row]]
    assert made.items == len(shown) < trained.items
    assert all(items["payload"]["category"][row] != category for row in shown)
    assert not set(found["popular"].tolist()) - set(shown)
    assert [rule["action"] for rule in told["facts"]["rules"]] == ["boost"]
    assert "dear" not in json.dumps(told)  # what merchants call their rules is not for everybody
    assert list(made.left_out) == told["left_out"] == []


def test_rules_for_some_people_are_told_as_left_out():
    rules = Rules.of(
        {"rule": [{"ban": "price > 10", "for": "age < 20", "name": "dear"}, {"ban": "price > 90"}]},
        {"price": "float"},
        {"age": "integer"},
    )
    told = device_export._left_out(SimpleNamespace(rules=rules))
    assert told == ["rules for some people, as a device knows nobody: 1"]


def test_refusals_name_the_thing_and_the_remedy(trained, tmp_path, monkeypatch):
    shop = molar.Shop(trained.shop, trained.workspace)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="something else in it"):
        shop.export_device(tmp_path / "other")
    with pytest.raises(DataError, match="cannot be written"):
        shop.export_device(tmp_path / "not" / "there")
    with pytest.raises(RequestError, match="no field 'prize'"):
        shop.export_device(tmp_path / "device", fields=["prize"])
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(BackendError, match="cannot be exported") as lacking:
            shop.export_device(tmp_path / "device")
    assert "molar-retrieval[device]" in lacking.value.hint
    monkeypatch.setattr(device_export, "MOST_ITEMS", 99)
    run = CliRunner().invoke(app, ["export", str(tmp_path / "device"), "-w", str(trained.workspace)])
    assert run.exit_code == 1
    assert "100 items, more than the 99" in run.stderr
    assert not (tmp_path / "device").exists()


def test_the_command_tells_what_it_wrote(trained, tmp_path):
    out = tmp_path / "device"
    command = ["export", str(out), "-w", str(trained.workspace), "--photos", "--json"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert told["digest"] == manifest_of(out)["digest"]
    photos = out / manifest_of(out)["files"]["photos"]
    found = mapped(photos)
    assert len(found["ends"]) == trained.items
    begins = [0, *found["ends"][:-1]]
    starts = {found["bytes"][b : b + 3].tobytes() for b, e in zip(begins, found["ends"], strict=True) if e > b}
    assert starts == {b"\xff\xd8\xff"}
    assert datetime.now(UTC) >= datetime.fromisoformat(manifest_of(out)["made"])
    assert CliRunner().invoke(app, ["export", str(out), "-w", str(trained.workspace)]).exit_code == 0
    assert not photos.exists()
