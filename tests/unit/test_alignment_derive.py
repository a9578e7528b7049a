"""An alignment derived from the live one is of the present data, and of nothing else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from updates import Days

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.store import open_model

TABLE = "network.items.id_tower.weight"


@pytest.fixture
def days(trained, tmp_path):
    return Days(trained, tmp_path)


def live(days):
    folder, manifest = days.workspace["alignment"].require()
    return folder, manifest, load_file(folder / "model.safetensors")


def ids(days):
    return Catalogue.open(days.workspace["catalogue"].require()[0]).ids


def another_day(days):
    """Two items go, one comes and is sold, an older one is sold for the first time, all others move up."""
    taken = set(pd.read_parquet(days.folder / "interactions.parquet")["item_id"])
    before = ids(days)
    unsold = [i for i in before.array.to_pylist() if i not in taken]

    def changed(table):
        new = table.iloc[[5]].assign(item_id="new-1", title="Walnut garden gnome")
        keep = ~table["item_id"].isin([before.id(3), unsold[0]])
        return pd.concat([new, table[keep]], ignore_index=True)

    days.items(changed)
    days.buy(("u0001", "new-1"), ("u0002", "new-1"), ("u0002", unsold[1]), ("newbody", before.id(7)))
    return before, unsold


def test_what_align_leaves_is_of_the_present(days):
    folder, manifest, _ = live(days)
    assert manifest.facts["derived"]["updates"] == 1
    report = refresh(days.workspace)
    assert report.up_to_date
    assert report.folder == folder
    log = open_log(days.workspace)
    assert report.facts["interactions"] == len(log) > manifest.facts["training_interactions"]
    assert set(np.flatnonzero(open_model(folder).known)) == set(log.item.tolist())


def test_another_day(days):
    _, was, old = live(days)
    before, unsold = another_day(days)
    days.prepare()
    report = refresh(days.workspace)
    folder, manifest, new = live(days)
    assert not report.up_to_date
    assert (report.facts["new_items"], report.facts["gone_items"]) == (1, 2)
    assert report.facts["recounted"]
    assert manifest.facts["derived"]["trained"] == was.facts["derived"]["trained"]
    assert manifest.facts["derived"]["updates"] == 2
    assert manifest.facts["weights"] == was.facts["weights"]
    assert not days.workspace["alignment"].partials()

    now = ids(days)
    rows = before.rows(now.array)
    model, log = open_model(folder), open_log(days.workspace)
    assert now.row("new-1") == 0
    assert model.known[[0, now.row(unsold[1])]].all()
    assert np.array_equal(new[TABLE][rows >= 0], old[TABLE][rows[rows >= 0]])
    assert np.allclose(new["features"][rows >= 0], old["features"][rows[rows >= 0]], atol=1e-6)
    for name in old:
        if name.startswith(("network.", "mean.", "map.", "rerank.", "predictor.")) and name != TABLE:
            assert np.array_equal(old[name], new[name]), name
    assert model.features.shape[0] == len(now) == log.n_items


def arrivals(days):
    """Items that nobody has taken come, one of them before all others."""

    def changed(table):
        first, last = (table.iloc[[5]].assign(item_id=name, title="Garden gnome") for name in ("new-1", "new-2"))
        return pd.concat([first, table, last], ignore_index=True)

    days.items(changed)


@pytest.mark.parametrize(("change", "recounted"), [(another_day, True), (arrivals, False)])
def test_what_is_kept_is_what_a_recount_gives(days, change, recounted, monkeypatch):
    change(days)
    days.prepare()
    shutil.copytree(days.workspace.root / "alignment", days.folder.parent / "kept", symlinks=True)
    assert refresh(days.workspace).facts["recounted"] == recounted
    _, _, found = live(days)
    shutil.rmtree(days.workspace.root / "alignment")
    shutil.copytree(days.folder.parent / "kept", days.workspace.root / "alignment", symlinks=True)
    monkeypatch.setattr("molar_retrieval.models.carry_over.same_histories", lambda *_: False)
    assert refresh(days.workspace).facts["recounted"]
    _, _, whole = live(days)
    assert set(found) == set(whole)
    assert [name for name in whole if not np.array_equal(found[name], whole[name])] == []


def test_a_changed_price_leaves_all_but_numbers(days):
    _, _, old = live(days)
    days.items(lambda table: table.assign(price=table["price"] + 1))
    days.prepare()
    report = refresh(days.workspace)
    assert not report.up_to_date
    assert not report.facts["recounted"]
    _, _, new = live(days)
    assert all(np.array_equal(old[name], new[name]) for name in old if name != "numbers")


def test_numbers_alone_are_written_as_a_whole_model_would_be(days, monkeypatch):
    refresh(days.workspace)
    days.items(lambda table: table.assign(price=table["price"] + 1))
    days.prepare()
    refresh(days.workspace)  # the alignment of an earlier molar does not say of which vectors it is
    days.items(lambda table: table.assign(price=table["price"] * 2))
    days.prepare()
    shutil.copytree(days.workspace.root / "alignment", days.folder.parent / "kept", symlinks=True)
    with monkeypatch.context() as patched:
        patched.setattr("molar_retrieval.models.carry_over.bring", lambda *_: pytest.fail("the whole model is made"))
        refresh(days.workspace)
    _, written, numbers = live(days)
    shutil.rmtree(days.workspace.root / "alignment")
    shutil.copytree(days.folder.parent / "kept", days.workspace.root / "alignment")
    monkeypatch.setattr("molar_retrieval.models.refresh._Base.differs_in_numbers", lambda *_: False)
    refresh(days.workspace)
    _, whole, arrays = live(days)
    assert numbers.keys() == arrays.keys()
    assert all(np.array_equal(numbers[name], arrays[name]) for name in arrays)
    written.facts["derived"].pop("seconds")
    whole.facts["derived"].pop("seconds")
    assert written.facts == whole.facts


def test_training_is_not_mistaken_for_derivation(days):
    assert days.shop.align().report.up_to_date
    another_day(days)
    days.prepare()
    derived = refresh(days.workspace).fingerprint
    done = days.shop.align()
    assert not done.report.up_to_date
    _, manifest, _ = live(days)
    assert manifest.facts["derived"]["updates"] == 1
    assert derived not in (manifest.fingerprint, manifest.facts["derived"]["trained"])
    assert days.shop.align().report.up_to_date
    assert len(days.shop.query("u0001", k=5).items) == 5


def told_otherwise(folder, **facts):
    """Change what the live alignment says of itself; None: it says nothing."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    said = {name: value for name, value in {**manifest["facts"], **facts}.items() if value is not None}
    path.write_text(json.dumps({**manifest, "facts": said}))


def test_vectors_of_another_encoder_cannot_be_carried_over(days):
    folder, _, old = live(days)
    told_otherwise(folder, encoder={"name": "former", "fingerprint": "f"})
    days.items(lambda table: table.assign(price=table["price"] + 1))
    days.prepare()
    with pytest.raises(StaleArtefactError, match="was trained on vectors of former, and") as told:
        refresh(days.workspace)
    assert "molar align" in told.value.hint
    assert live(days)[0] == folder
    assert np.array_equal(live(days)[2][TABLE], old[TABLE])


def test_an_alignment_of_an_earlier_molar_is_trained_anew(days):
    folder, _, _ = live(days)
    shutil.rmtree(folder / "seen")
    told_otherwise(folder, derived=None, encoder=None)
    with pytest.raises(StaleArtefactError, match="earlier version"):
        refresh(days.workspace)
