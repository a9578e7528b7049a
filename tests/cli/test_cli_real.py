"""The whole on a real shop, with vectors from elsewhere in place of the encoder to stay quick."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.mark.realdata
@pytest.mark.slow
def test_every_item_and_every_user_of_hm(molar, real_data, tmp_path):
    shop = real_data("hm")
    ids = pq.read_table(shop / "items.parquet", columns=["item_id"])["item_id"]
    matrix = np.random.default_rng(0).normal(size=(len(ids), 16)).astype(np.float32)
    table = pa.table({"item_id": ids, "vector": pa.array(list(matrix), pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "vectors.parquet")
    # Neither the regressions over 10,000 items nor weights for later: they take long, and say nothing of what is there.
    some = 'models = ["content_knn", "popularity"]\nobjectives = ["next_item"]\n'
    settings = f"[align]\nepochs = 1\nembedding_dim = 16\nmax_history = 30\nthreads = 1\n{some}"
    (tmp_path / "molar.toml").write_text(settings)
    workspace = tmp_path / ".molar"
    options = ["--workspace", workspace, "--json"]
    embedded = molar("embed", shop, "--vectors", tmp_path / "vectors.parquet", *options)
    assert json.loads(embedded.stdout)["items"] == len(ids) == 10_010, embedded.stderr
    aligned = molar("align", *options)
    assert aligned.returncode == 0, aligned.stderr
    (generation,) = json.loads(molar("index", "list", *options).stdout)["generations"]
    log = pq.read_table(shop / "interactions.parquet", columns=["user_id", "item_id"])
    users = log["user_id"].unique().to_pylist()
    assert (generation["items"], generation["users"]) == (10_010, len(users))
    answer = json.loads(molar("query", "--user", users[7], "-k", 50, *options).stdout)
    seen = {r["item_id"] for r in log.to_pylist() if r["user_id"] == users[7]}
    assert len(answer["items"]) == 50
    assert not seen & {item["item_id"] for item in answer["items"]}
    assert all(item["title"] for item in answer["items"])
