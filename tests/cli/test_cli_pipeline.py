"""The commands one after another, as programs: summaries, staleness, kills, rollbacks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT

MOLAR = Path(sys.executable).with_name("molar")
TOML = "[align]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items())


@pytest.fixture
def copy(trained, tmp_path):
    """A workspace of one's own, with the settings it was made with."""
    copy_workspace(trained.workspace, tmp_path / ".molar")
    (tmp_path / "molar.toml").write_text(TOML)
    return tmp_path / ".molar"


def items_csv(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("item_id,title,image\n" + "\n".join(rows), "utf-8")
    return folder


def test_a_second_run_finds_everything_done(molar, copy, trained):
    embed = molar("embed", trained.shop, "--workspace", copy)
    align = molar("align", "--workspace", copy)
    assert (embed.returncode, align.returncode) == (0, 0), embed.stderr + align.stderr
    assert "up to date" in embed.stdout
    assert "up to date" in align.stdout
    assert "ensemble" in align.stdout
    assert "popularity" in align.stdout


def test_align_json_holds_scores_and_curve_and_the_table_the_shares(molar, copy):
    report = json.loads(molar("align", "--workspace", copy, "--json").stdout)
    parts = {"sequential", "ease", "content_knn", "popularity", "id_tower", "content_tower"}
    assert set(report["scores"]) == {"total_popularity", "als", "aligned", *parts}
    assert set(report["facts"]["weights"]) == parts
    assert len(report["curve"]) == SMALL_ALIGNMENT["epochs"]
    best = max(report["curve"], key=lambda epoch: epoch["ndcg"])
    assert report["facts"]["best_epoch"] == best["epoch"]
    assert set(best["towers"]) == {"id_tower", "content_tower"}
    assert report["scores"]["aligned"]["ndcg@10"] >= max(report["scores"][part]["ndcg@10"] for part in parts)
    table = molar("align", "--workspace", copy).stdout
    for name, words in (("sequential", "sequential"), ("id_tower", "ID tower")):
        line = next(line for line in table.splitlines() if words in line)  # that of what comes next is first
        assert line.endswith(f"{report['facts']['shares'][name]:.0%}")
    assert sum(report["facts"]["shares"].values()) == pytest.approx(1)
    assert "cold-start items: " in table


def test_an_instant_alignment_trains_nothing_and_answers(molar, copy, trained):
    done = molar("align", "--preset", "instant", "--workspace", copy)
    assert done.returncode == 0, done.stderr
    assert "nothing trained, only counted" in done.stdout
    assert "content kNN" in done.stdout
    assert "tower" not in done.stdout
    assert "epoch" not in done.stderr
    answer = json.loads(molar("query", "--user", trained.user, "--workspace", copy, "--json").stdout)
    assert len(answer["items"]) == 10
    for item in answer["items"]:
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-3)
        assert not {"id_tower", "content_tower"} & set(item["parts"])
    refused = molar("align", "--preset", "instand", "--workspace", copy)
    assert refused.returncode == 2
    assert "instant" in refused.stderr


def test_an_unknown_expert_is_refused_with_those_there_are(molar, copy):
    (copy.parent / "molar.toml").write_text('[align]\nmodels = ["sequense"]\n')
    done = molar("align", "--workspace", copy)
    assert done.returncode == 2
    assert "'sequense'" in done.stderr
    assert "'sequential'" in done.stderr


def test_neither_towers_nor_experts_is_refused(molar, copy):
    (copy.parent / "molar.toml").write_text("[align]\nmodels = ['repeat_consumption']\n")
    done = molar("align", "--workspace", copy)
    assert done.returncode == 2
    assert "no model is left" in done.stderr
    assert "models" in done.stderr.splitlines()[-1]


def test_cf_alone(molar, copy):
    done = molar("cf", "--factors", 8, "--workspace", copy)
    assert done.returncode == 0
    assert "8 factors" in done.stdout
    assert "up to date" in molar("cf", "--factors", 8, "--workspace", copy).stdout


def test_another_catalogue_is_refused_with_the_remedy(molar, copy, tmp_path):
    other = items_csv(tmp_path / "other", ["1,one,"])
    done = molar("embed", other, "--workspace", copy)
    assert done.returncode == 1
    assert "serves the catalogue" in done.stderr
    assert "--workspace" in done.stderr


def test_a_changed_catalogue_is_named_and_not_silently_used(molar, copy, trained, tmp_path):
    shop = tmp_path / "shop"
    shutil.copytree(trained.shop, shop)
    record = copy / "workspace.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "catalogue": str(shop)}))
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(shop / "items.parquet")
    titles = ["A quite different thing", *table["title"].to_pylist()[1:]]
    changed = table.set_column(table.schema.get_field_index("title"), "title", pa.array(titles))
    pq.write_table(changed, shop / "items.parquet")
    stale = molar("align", "--workspace", copy)
    assert stale.returncode == 3
    assert "molar embed" in stale.stderr
    again = json.loads(molar("embed", shop, "--workspace", copy, "--json").stdout)
    assert (again["encoded"], again["reused"]) == (1, trained.items - 1)
    assert molar("align", "--workspace", copy).returncode == 0


def test_bad_rows_are_counted_and_stop_nothing(molar, tmp_path):
    rows = ["1,one,gone.jpg", ",no id,", "2,two,../../etc/passwd", "1,again,", "3,three,http://x/a.jpg", "4,four,"]
    shop = items_csv(tmp_path / "shop", rows)
    (tmp_path / "vectors.csv").write_text("x")
    done = molar("embed", shop, "--workspace", tmp_path / ".molar", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["items"] == 4
    assert report["catalogue"]["rejects"] == 5
    rejects = next((tmp_path / ".molar" / "catalogue").glob("*/rejects.parquet"))
    import pyarrow.parquet as pq

    found = {(r["row"], r["item_id"]): r["reason"] for r in pq.read_table(rejects).to_pylist()}
    assert {row for row, _ in found} == {1, 2, 3, 4, 5}
    assert all(reason for reason in found.values())


@pytest.mark.parametrize("content", [None, "", "item_id,title\n", "title\nno id column\n"])
def test_an_unusable_catalogue_is_refused_with_the_reason(molar, tmp_path, content):
    shop = tmp_path / "shop"
    shop.mkdir()
    if content is not None:
        (shop / "items.csv").write_text(content)
    done = molar("embed", shop, "--workspace", tmp_path / ".molar")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 2
    assert "items" in done.stderr


def test_steps_in_the_wrong_order_name_the_right_one(molar, tmp_path):
    done = molar("align", "--workspace", tmp_path / ".molar")
    assert done.returncode == 3
    assert "molar embed" in done.stderr


def test_an_unknown_setting_names_the_nearest(molar, copy):
    (copy.parent / "molar.toml").write_text("[align]\nepoch = 3\n")
    done = molar("align", "--workspace", copy)
    assert done.returncode == 2
    assert "'epochs'" in done.stderr
    assert "molar.toml" in done.stderr


def test_a_log_without_any_usable_row_is_refused(molar, tmp_path):
    shop = items_csv(tmp_path / "shop", ["1,a red cap,", "2,a blue cap,"])
    (shop / "interactions.csv").write_text("user_id,item_id,timestamp\nu,nothing,1\n")
    workspace = tmp_path / ".molar"
    assert molar("embed", shop, "--workspace", workspace).returncode == 0
    done = molar("align", "--workspace", workspace)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(molar, copy, trained):
    shutil.rmtree(copy / "generations")
    (copy.parent / "molar.toml").write_text(TOML + "\nseed = 5\n")
    undisturbed = copy.parent / "undisturbed"
    copy_workspace(copy, undisturbed / ".molar")
    shutil.copy(copy.parent / "molar.toml", undisturbed)
    assert molar("align", "--workspace", undisturbed / ".molar").returncode == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([MOLAR, "align", "--workspace", copy], stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    for line in child.stderr:
        if line.startswith("epoch   1") or time.monotonic() > deadline:
            break
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (copy / "generations" / "current").exists()
    assert molar("query", "--user", trained.user, "--workspace", copy).returncode == 3
    assert list((copy / "alignment").glob("*.partial/checkpoint.safetensors"))

    done = molar("align", "--workspace", copy)
    assert done.returncode == 0, done.stderr
    models = [next((w / "alignment").glob("*/model.safetensors")).read_bytes() for w in (copy, undisturbed / ".molar")]
    assert models[0] == models[1]
    assert molar("query", "--user", trained.user, "--workspace", copy).returncode == 0


def test_generations_are_listed_verified_and_rolled_back(molar, copy):
    first = json.loads(molar("index", "list", "--workspace", copy, "--json").stdout)["generations"]
    (copy.parent / "molar.toml").write_text(TOML + "\n[index]\nef = 100\n")
    assert molar("align", "--workspace", copy).returncode == 0
    both = json.loads(molar("index", "list", "--workspace", copy, "--json").stdout)["generations"]
    assert len(first) == 1
    assert [g["live"] for g in both] == [False, True]
    assert molar("index", "verify", "--deep", "--workspace", copy).returncode == 0
    told = molar("index", "diff", "--users", "20", "--workspace", copy)
    assert told.stdout.splitlines()[0] == f"{both[0]['name']} → {both[1]['name']}: the first ten of 20 people"
    assert molar("index", "diff", "nonsense", "--workspace", copy).returncode == 3
    assert molar("index", "rollback", "--workspace", copy).returncode == 0
    after = json.loads(molar("index", "list", "--workspace", copy, "--json").stdout)["generations"]
    assert [g["live"] for g in after] == [True, False]
    assert molar("index", "rollback", "nonsense", "--workspace", copy).returncode == 3


def test_a_damaged_generation_is_refused_with_the_remedy(molar, copy, trained):
    users = next((copy / "generations").glob("*/users.sqlite"))
    users.write_bytes(users.read_bytes()[:1000])
    done = molar("query", "--user", trained.user, "--workspace", copy)
    assert done.returncode == 3
    assert "molar" in done.stderr.splitlines()[1]
    assert molar("index", "verify", "--workspace", copy).returncode == 3


def test_vectors_from_elsewhere_take_the_place_of_the_encoder(molar, trained, tmp_path):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pq.read_table(trained.shop / "items.parquet")["item_id"]
    matrix = np.random.default_rng(0).normal(size=(len(ids), 12)).astype(np.float32)
    table = pa.table({"item_id": ids, "vector": pa.array(list(matrix), pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "vectors.parquet")
    (tmp_path / "molar.toml").write_text(TOML)
    workspace = tmp_path / ".molar"
    embedded = molar(
        "embed", trained.shop, "--vectors", tmp_path / "vectors.parquet", "--workspace", workspace, "--json"
    )
    assert json.loads(embedded.stdout)["dim"] == 12, embedded.stderr
    assert molar("align", "--workspace", workspace).returncode == 0
    answer = molar("query", "--user", trained.user, "--workspace", workspace, "--json")
    assert len(json.loads(answer.stdout)["items"]) == 10


def test_a_forecast_writes_nothing(molar, trained, tmp_path):
    done = molar("embed", trained.shop, "--dry-run", "--workspace", tmp_path / ".molar")
    assert done.returncode == 0, done.stderr
    assert "MB" in done.stdout or "kB" in done.stdout or "KB" in done.stdout
    assert not (tmp_path / ".molar" / "content_tower" / "current").exists()
