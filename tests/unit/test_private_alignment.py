"""An alignment on statistics with noise: what is told of items follows from these alone, and the ledger counts.

Of shops that add up: one shares, another adds it at no cost, and goes on with it until it says otherwise.
"""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from copies import copy_workspace
from safetensors.numpy import load_file
from support.person_scan import PersonScan
from typer.testing import CliRunner
from updates import Days

import molar
from molar import forecasting
from molar.due import due
from molar_cli.app import app
from molar_indexes.generations import open_generation
from molar_retrieval.errors import DataError, RequestError, SettingsError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.private_alignment import align_on_statistics
from molar_retrieval.models.refresh import refresh
from molar_retrieval.privacy import dp_release
from molar_retrieval.privacy.dp_release import release_statistics
from molar_retrieval.privacy.federated import beside_others, kept_others, open_others
from molar_retrieval.privacy.statistics import open_shared, open_statistics, write_shared
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import COUNT_MODELS, AlignSettings

FILES = ("table.safetensors", "popular.json", "encoder/model.safetensors")


@pytest.fixture(scope="module")
def private(trained, tmp_path_factory):
    """A shop whose generation is of statistics at ε = 4."""
    days = Days(trained, tmp_path_factory.mktemp("private"))
    settings = days.folder.parent / "molar.toml"
    settings.write_text(settings.read_text("utf-8") + "\n[privacy]\nyearly_epsilon = 5\n", "utf-8")
    days.done = days.shop.align(privacy=4)
    return days


def copied(days, folder):
    """The same in a folder of its own."""
    shutil.copytree(days.folder, folder / "shop")
    copy_workspace(days.shop.workspace, folder / ".molar")
    shutil.copy(days.folder.parent / "molar.toml", folder / "molar.toml")
    shop = molar.Shop(days.folder, folder / ".molar").move(catalogue=folder / "shop")
    other = object.__new__(Days)
    other.folder, other.stamp, other.shop = folder / "shop", days.stamp, shop
    other.workspace = Workspace(shop.workspace)
    return other


def item_sides(workspace):
    """All that a generation tells of items: its files byte by byte, and what its index holds."""
    with open_generation(workspace) as generation:
        spec = generation.index.spec
        every = generation.index.fetch(range(len(generation.index)), vectors=[*spec.dims, *spec.sparse])
        dense = {(one.item_id, n): np.asarray(v).tobytes() for one in every for n, v in one.vectors.items()}
        sparse = {(one.item_id, n): str((v.indices, v.values)) for one in every for n, v in one.sparse.items()}
        return {name: (generation.folder / name).read_bytes() for name in FILES} | dense | sparse


def test_two_logs_with_the_same_statistics_have_the_same_item_sides(private, tmp_path):
    other = copied(private, tmp_path)
    other.log(lambda table: table.sample(frac=0.5, random_state=1).sort_index())
    report = other.shop.update()
    assert "interactions" in report.facts
    assert report.generation != private.done.generation
    assert item_sides(other.workspace) == item_sides(private.workspace)
    with open_generation(other.workspace) as now, open_generation(private.workspace) as before:
        one = next(iter(now.users.between(0, 1)))
        assert len(one.history) <= len(before.users.keyed(one.user_id).history)
        assert len(now.users) <= len(before.users)


def test_a_workspace_without_any_interaction_gives_the_same_model(private, tmp_path):
    shutil.copytree(private.shop.workspace, tmp_path / ".molar", symlinks=True)
    workspace = Workspace(tmp_path / ".molar")
    for kind in ("interactions", "als", "generations", "alignment", "events"):
        shutil.rmtree(workspace.root / kind, ignore_errors=True)
    settings = AlignSettings(**private_manifest(private).settings["align"])
    folder, manifest, made = align_on_statistics(workspace, settings, "molar align")
    assert made
    assert (folder / "model.safetensors").read_bytes() == model_file(private).read_bytes()
    assert manifest.facts["weights"] == private_manifest(private).facts["weights"]
    assert set(manifest.inputs) == {"catalogue", "content", "statistics", "attributes"}
    assert not (folder / "seen").exists()


def model_file(days):
    return days.workspace["alignment"].require()[0] / "model.safetensors"


def private_manifest(days):
    return days.workspace["alignment"].require()[1]


def test_what_is_published_is_of_the_statistics(private):
    facts = private_manifest(private).facts
    entry = private.shop.privacy.ledger().entries[0]
    assert facts["private"]["ledger"] == entry.name == private.workspace["statistics"].require()[1].fingerprint
    assert {"towers", "second stage", "validation"} <= facts["private"]["off"].keys()
    assert private_manifest(private).settings["align"]["models"] == [*COUNT_MODELS]
    tensors = load_file(model_file(private))
    assert tensors["known"].all()
    assert not any(name.startswith(("network.towers", "rerank", "predictor")) or name == "als" for name in tensors)
    with open_generation(private.workspace) as generation:
        table = load_file(generation.folder / "table.safetensors")
        assert not table["item_item.support"].any()
        assert table["known"].all()
        assert [count for _, count in generation.popular] == sorted(
            np.rint(tensors["demand"]).astype(int).tolist(), reverse=True
        )
        assert generation.manifest.facts["exploration"] is None
    answer = private.shop.query(trained_user(private), explain=True)
    assert len(answer.items) == 10
    assert not any("took" in reason for item in answer.items for reason in item.reasons)
    assert private.shop.verify().problems == ()


def test_reasons_tell_of_likeness_only_where_lists_are_made_of_it(private):
    """With targets, what a history looks like is compared with what was taken after such looks."""
    from molar_indexes.rebuild import origins
    from molar_retrieval.data.catalogue import Catalogue
    from molar_retrieval.models.store import open_model
    from molar_retrieval.ranking.explanations import Attributions, Speaker

    model = open_model(private.workspace["alignment"].require()[0])
    catalogue = Catalogue(*private.workspace["catalogue"].require())
    plain = replace(model, content_knn=replace(model.content_knn, targets=None))
    towards = replace(model, content_knn=replace(model.content_knn, targets=model.content_knn.items[::-1].copy()))
    assert origins(plain, catalogue).content_knn is not None
    assert "content_knn" in origins(plain, catalogue).maps
    assert origins(towards, catalogue).content_knn is None
    assert "content_knn" not in origins(towards, catalogue).maps
    said = Speaker.of("en").say(Attributions((), (), {}), {"content_knn": 0.3, "popularity": 0.1}, {}, ())
    assert said == "It fits what you had as a whole."


def trained_user(days):
    with open_generation(days.workspace) as generation:
        return next(iter(generation.users.between(0, 1))).user_id


def test_generations_without_noise_that_are_still_kept_are_named(private):
    every = {one.name for one in private.shop.generations()}
    assert {*private.done.private.without} == every - {private.done.generation}
    assert len(every) == 2


def test_the_same_log_costs_nothing(private):
    again = private.shop.align(privacy=4)
    assert (again.private.released, again.report.up_to_date, again.generation) == (False, True, private.done.generation)
    assert len(again.private.ledger.entries) == 1


def test_the_budget_refuses_and_nothing_is_written_before_the_ledger_has_it(private, tmp_path, monkeypatch):
    other = copied(private, tmp_path)
    other.buy((trained_user(private), "SKU-0001"))
    statistics, before = other.workspace["statistics"], other.shop.privacy.ledger()
    there = {path.name for path in statistics.root.iterdir()}
    with pytest.raises(DataError, match="yearly_epsilon = 5"):
        other.shop.align(privacy=4)
    monkeypatch.setattr(dp_release.PrivacyLedger, "spend", killed)
    with pytest.raises(KeyboardInterrupt):
        other.shop.align(privacy=1)
    assert {path.name for path in statistics.root.iterdir()} == there
    assert other.shop.privacy.ledger().entries == before.entries
    monkeypatch.undo()
    monkeypatch.setattr(dp_release, "write_shared", killed)
    with pytest.raises(KeyboardInterrupt):
        other.shop.align(privacy=1)
    monkeypatch.undo()
    first, second = other.shop.privacy.ledger().entries
    assert {path.name for path in statistics.versions()} == {first.name} == {before.entries[0].name}
    assert second.epsilon == 1
    assert 4 < other.shop.privacy.ledger().spent < 5


def test_an_update_takes_new_items_and_peoples_own_histories_without_a_release(private, tmp_path):
    other, user = copied(private, tmp_path), trained_user(private)

    def with_new(table):
        row = table.iloc[[0]].assign(item_id="SKU-NEW", title="Alderfinch Hanno throw pillow, new")
        return molar_concat(row, table)

    other.items(with_new)
    other.buy((user, "SKU-NEW"))
    report = other.shop.update()
    assert len(other.shop.privacy.ledger().entries) == 1
    step = {one.name: one.outcome for one in report.steps}
    assert step["alignment"] == "statistics as they were released, over the present items"
    with open_generation(other.workspace) as generation:
        ids = generation.table.item_ids()
        assert [ids[row] for row in generation.users.keyed(user).history][-1] == "SKU-NEW"
    demand = load_file(model_file(other))["demand"]
    former = load_file(model_file(private))["demand"]
    assert np.array_equal(demand[1:], former)  # the new item is the first row, and nobody is known to have it
    assert demand[0] == demand.min()
    assert other.shop.update().up_to_date
    assert [one for one in due(private_manifest(other), other.shop.settings)] == []
    other_epsilon = molar.Shop(other.folder, other.shop.workspace)._settings(privacy={"epsilon": 2.0})
    assert "epsilon is 2, it was 4" in due(private_manifest(other), other_epsilon)[0].why


def molar_concat(*tables):
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def killed(*_, **__):
    raise KeyboardInterrupt


def test_a_log_is_the_same_whatever_its_people_are_called_and_wherever_its_items_are(private):
    from molar_retrieval.ids import IdMap
    from molar_retrieval.models.als import open_log

    log = open_log(private.workspace)
    digest = dp_release.log_digest(log)
    renamed = replace(log, users=IdMap([f"other {n}" for n in range(log.n_users)]))
    order = np.random.default_rng(0).permutation(log.n_items)
    ids = log.items.array.to_pylist()
    place = np.argsort(order)
    moved = replace(log, items=IdMap([ids[row] for row in order]), item=place[log.item].astype(np.int32))
    assert dp_release.log_digest(renamed) == dp_release.log_digest(moved) == digest
    fewer = log.select(np.arange(len(log)) != 3)
    assert dp_release.log_digest(fewer) != digest


@pytest.mark.parametrize(
    ("family", "account", "refused"),
    [
        ("fused", {"tasks": [{"name": "behaviour", "left_out": None}]}, True),
        ("fused", {"tasks": [{"name": "behaviour", "left_out": "switched off"}]}, False),
        ("sentence", {}, False),
    ],
)
def test_an_encoder_that_learned_from_people_is_refused(tmp_path, monkeypatch, family, account, refused):
    made_by = {"name": "one", "fingerprint": "f", "family": family}
    manifest = Manifest("content", "c", settings={"encoder": made_by, "embed": {"model": str(tmp_path)}})
    monkeypatch.setattr(dp_release.head, "read_account", lambda _: account)
    monkeypatch.setattr(Workspace, "__getitem__", lambda *_: SimpleNamespace(require=lambda: (tmp_path, manifest)))
    if refused:
        with pytest.raises(SettingsError, match="fine-tuned on what people took"):
            dp_release._public_encoder(Workspace(tmp_path))
    else:
        assert dp_release._public_encoder(Workspace(tmp_path)) == {"name": "one", "fingerprint": "f"}


def test_the_command_says_what_it_took_and_what_is_left_out(private):
    run = CliRunner().invoke(app, ["align", "--privacy", "4", "--workspace", str(private.shop.workspace)])
    assert run.exit_code == 0, run.output
    words = " ".join(run.output.split())
    assert "ε = 4" in words
    assert "no cost" in words
    assert "towers: training reads every history many times" in words
    told = CliRunner().invoke(app, ["privacy", "ledger", "--json", "--workspace", str(private.shop.workspace)])
    assert len(json.loads(told.output)["entries"]) == 1
    with pytest.raises(SettingsError, match="would be without"):
        private.shop.align()
    with pytest.raises(SettingsError, match="would be without"):
        private.shop.align_forecast()
    refused = CliRunner().invoke(
        app, ["align", "--privacy", "4", "--epochs", "3", "--workspace", str(private.shop.workspace)]
    )
    assert refused.exit_code == 2


def test_a_dry_run_tells_what_it_would_take_of_the_budget_and_spends_nothing(private, monkeypatch):
    root = private.workspace.root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    asked = ["align", "--dry-run", "--json", "--workspace", str(root), "--privacy"]
    again = json.loads(CliRunner().invoke(app, [*asked, "4"]).stdout)
    assert not again["private"]["released"]
    assert (again["epoch"], again["epochs"]) == (None, 0)
    assert again["bill"]["seconds"] == pytest.approx(again["reading"] + again["counting"], abs=0.1)
    monkeypatch.setattr(forecasting, "_WHOLE", 1000)  # so that parts of the log are tried
    other = private.shop.align_forecast(privacy=0.5)
    assert other.private.released
    assert other.private.ledger.spent == pytest.approx(4.03, abs=0.02)
    assert "365 days would have taken ε = 4.0" in other.lines()[-1]
    with pytest.raises(DataError, match="does not bear a release"):
        private.shop.align_forecast(privacy=4.5)
    assert not private.shop.align_forecast(privacy=4).private.released, "of the whole log, of which there is a release"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before


def test_the_report_names_the_budget_and_what_is_spent(private):
    facts = json.loads(private.shop.privacy.report(private.folder.parent / "papers").facts.read_text("utf-8"))
    assert facts["measures"]["epsilon"]["value"] == "4"
    assert facts["measures"]["epsilon_spent"]["value"] == "4.00 / 5"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_ledger_that_lacks_a_release_bears_none_until_the_budget_is_reset(private, tmp_path, kept):
    """The file is removed, or its last line is: something in the workspace still names the entry."""
    shop = copied(private, tmp_path).shop
    shop.privacy.share(tmp_path / "ours.statistics", epsilon=0.5)
    path = shop.workspace / "privacy_ledger.jsonl"
    first, second = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text(first, "utf-8") if kept else path.unlink()
    lost = [json.loads(line)["name"] for line in (first, second)][kept:]
    with pytest.raises(DataError) as refused:
        shop.privacy.share(tmp_path / "again.statistics", epsilon=0.25)
    assert all(name in refused.value.message for name in lost)
    assert "--reset-budget" in refused.value.hint
    assert len(shop.privacy.ledger().missing) == len(lost)
    place = ["--workspace", str(shop.workspace)]
    assert CliRunner().invoke(app, ["privacy", "ledger", "--reset-budget", *place]).exit_code == 0
    assert shop.privacy.ledger().missing == ()
    assert len(shop.privacy.ledger().entries) == kept
    assert shop.privacy.share(tmp_path / "again.statistics", epsilon=0.25).released
    assert [one.epsilon for one in shop.privacy.ledger(reset_budget=True).entries] == [4, 0.25][1 - kept :]
    assert '"missing"' in path.read_text("utf-8")


@pytest.fixture(scope="module")
def other(private, tmp_path_factory):
    """Another shop with the same items and half of the people, which has released nothing yet."""
    shop = copied(private, tmp_path_factory.mktemp("other"))
    (shop.workspace.root / "privacy_ledger.jsonl").unlink()
    shutil.rmtree(shop.workspace.root / "statistics")
    assert len(shop.shop.privacy.ledger(reset_budget=True).entries) == 0
    shop.log(lambda table: table[table["user_id"].isin(table["user_id"].drop_duplicates()[::2])])
    return shop


@pytest.fixture(scope="module")
def theirs(other, tmp_path_factory):
    """What the other shop shares, at ε = 2."""
    return other.shop.privacy.share(tmp_path_factory.mktemp("shared") / "theirs.statistics", epsilon=2)


@pytest.fixture(scope="module")
def ours(private, tmp_path_factory):
    return copied(private, tmp_path_factory.mktemp("ours"))


def said(*words, shop, code=0):
    """What a command says, in one line."""
    run = CliRunner().invoke(app, [*words, "--workspace", str(shop.workspace.root)])
    assert run.exit_code == code, run.output
    return " ".join(run.output.split())


def beside(shop, *paths, release=None):
    """The manifest of the shop's statistics with these files beside them."""
    folder = shop.workspace["statistics"].require()[0] if release is None else release
    return beside_others(shop.workspace, folder, open_others(shop.workspace, paths))[1]


def shared_model(shop):
    folder, manifest = shop.workspace["alignment"].require()
    return (folder / "model.safetensors").read_bytes(), manifest.facts["private"]["others"]


def test_a_release_is_shared_once_and_found_again(other, theirs, tmp_path):
    assert (theirs.released, theirs.epsilon, theirs.items, theirs.absent) == (True, 2, 100, 0)
    assert other.workspace["statistics"].current is None  # what is live stays as it is
    (entry,) = other.shop.privacy.ledger().entries
    assert (entry.epsilon, entry.purpose) == (2, "molar privacy share")
    again = other.shop.privacy.share(tmp_path / "again", epsilon=2, like=theirs.path, shops=1)
    assert not again.released
    assert (tmp_path / "again").read_bytes() == theirs.path.read_bytes()
    few = other.shop.privacy.share(tmp_path / "few", epsilon=2, items=["SKU-0002", "SKU-0001", "unknown"])
    assert (few.released, few.items, few.absent) == (False, 2, 1)
    whole, part = open_shared(theirs.path), open_shared(tmp_path / "few")
    rows = whole.items.rows(part.items.array)
    np.testing.assert_array_equal(part.released.popularity, whole.released.popularity[rows])
    assert len(other.shop.privacy.ledger().entries) == 1
    with pytest.raises(SettingsError, match="nothing is shared without noise"):
        other.shop.privacy.share(tmp_path / "none")
    with pytest.raises(DataError, match="none of the items"):
        other.shop.privacy.share(tmp_path / "none", epsilon=2, items=["unknown"])
    with pytest.raises(RequestError, match="no item"):
        other.shop.privacy.share(tmp_path / "none", epsilon=2, items=[])


def test_a_file_has_nobody_in_it(other, theirs):
    """The same search that finds a person in every place of a workspace."""
    user = trained_user(other)
    person = PersonScan.of(other.workspace, user)
    log = person.scan([other.folder])
    assert any(one.findings for one in log)
    (file,) = person.scan([theirs.path])
    assert not file.findings
    assert user.encode() not in theirs.path.read_bytes()


def test_others_are_added_at_no_cost_and_stay_until_they_are_left_out(ours, theirs):
    alone, none = shared_model(ours)
    assert none == []
    words = said("align", "--privacy", "4", "--with", str(theirs.path), shop=ours)
    assert "of the same log" in words
    assert "added of another shop, ε = 2 for its people: popularity of 100 items that both have" in words
    assert len(ours.shop.privacy.ledger().entries) == 1
    both, (told,) = shared_model(ours)
    assert (told["digest"], told["epsilon"], told["items"], told["same_terms"]) == (theirs.digest, 2, 100, True)
    assert both != alone
    statistics = open_statistics(ours.workspace["statistics"].require()[0])
    total = statistics.own.released.popularity + open_shared(theirs.path).released.popularity
    np.testing.assert_allclose(statistics.over(statistics.own.items)[0].popularity, total, rtol=1e-5)
    assert ours.shop.align(privacy=4).report.up_to_date
    assert shared_model(ours) == (both, [told])
    assert ours.shop.verify().problems == ()
    assert [path.name for path in kept_others(ours.workspace)] == [theirs.digest]
    with pin(ours.workspace, "catalogue", "content", "interactions", work="molar align") as read:
        one = ours.shop._settings(privacy={"epsilon": 1.0}).privacy
        assert release_statistics(read, one, 128)[2]  # killed here, others are kept all the same
    assert [path.name for path in kept_others(ours.workspace)] == [theirs.digest]
    settings = AlignSettings(**private_manifest(ours).settings["align"])
    beside(ours)
    align_on_statistics(ours.workspace, settings, "molar align")
    assert shared_model(ours) == (alone, [])
    beside(ours, theirs.path)
    align_on_statistics(ours.workspace, settings, "molar align")
    ours.items(lambda table: molar_concat(table.iloc[[0]].assign(item_id="SKU-NEW", title="throw pillow"), table))
    ours.shop.embed()
    refresh(ours.workspace)
    assert len(load_file(model_file(ours))["demand"]) == 101
    assert shared_model(ours)[1] == [told]


def test_files_that_cannot_be_added_are_refused(ours, theirs, tmp_path):
    own = ours.shop.privacy.share(tmp_path / "own", epsilon=4)
    assert not own.released
    align = ours.shop.align
    with pytest.raises(RequestError, match="of this shop itself"):
        align(privacy=4, others=[own.path])
    with pytest.raises(RequestError, match="of the same shop"):
        align(privacy=4, others=[theirs.path, theirs.path])
    foreign = open_shared(theirs.path)
    write_shared(replace(foreign, items=IdMap([f"X{n}" for n in range(len(foreign.items))])), tmp_path / "foreign")
    with pytest.raises(DataError, match="no item of this catalogue"):
        align(privacy=4, others=[tmp_path / "foreign"])
    with pytest.raises(SettingsError, match="would be without"):
        align(privacy=0, others=[theirs.path])


def test_looks_are_told_in_the_terms_of_another_file(ours, theirs, tmp_path):
    foreign = open_shared(theirs.path)
    turned = replace(foreign, terms=replace(foreign.terms, axes=foreign.terms.axes[:, ::-1].copy()))
    write_shared(turned, tmp_path / "turned")
    assert beside(ours, tmp_path / "turned").facts["others"][0]["same_terms"] is False
    share = ours.shop.privacy.share
    with pytest.raises(DataError, match="budget"):
        share(tmp_path / "own", epsilon=4, like=tmp_path / "turned")
    own = share(tmp_path / "own", epsilon=1, like=tmp_path / "turned", shops=2)
    assert own.released
    assert own.terms == turned.terms.digest
    released = ours.workspace["statistics"].versions()[-1]
    assert beside(ours, tmp_path / "turned", release=released).facts["others"][0]["same_terms"] is True
    other_encoder = replace(turned, terms=replace(turned.terms, encoder={"name": "other", "fingerprint": "o"}))
    write_shared(other_encoder, tmp_path / "encoder")
    with pytest.raises(DataError, match="told there by other"):
        share(tmp_path / "own", epsilon=1, like=tmp_path / "encoder")


def test_the_commands_say_what_was_shared_and_refuse_both(other, ours, theirs, tmp_path):
    (tmp_path / "items.txt").write_text("SKU-0001\nSKU-0003\nnone\n", "utf-8")
    words = said(
        *("privacy", "share", str(tmp_path / "out"), "--epsilon", "2", "--items", str(tmp_path / "items.txt")),
        shop=other,
    )
    assert "2 items, ε = 2" in words
    assert "no cost" in words
    assert "1 items of" in words
    told = json.loads(said("privacy", "share", str(tmp_path / "out"), "--epsilon", "2", "--json", shop=other))
    assert (told["items"], told["digest"], told["released"]) == (100, theirs.digest, False)
    said("align", "--privacy", "4", "--alone", "--with", str(theirs.path), shop=ours, code=2)
