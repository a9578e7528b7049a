"""Which encoder a workspace has, what it had before, and that going back makes nothing anew."""

from pathlib import Path
from typing import Any

import pytest
from embedding_fakes import FakeEncoder, Shop, info, planned

import molar
from molar_retrieval.embedding import embed
from molar_retrieval.embedding.run import find_model_folder, with_current_encoder
from molar_retrieval.embedding.vector_cache import previous_vectors, prune_previous
from molar_retrieval.workspace.settings import EmbedSettings


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


class Unloadable(FakeEncoder):
    def encode(self, items: Any) -> Any:
        raise AssertionError("the encoder was used")


def of(name: str) -> FakeEncoder:
    return FakeEncoder(info(name), dim=16 if name == "one" else 8)


class Told:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, task: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1) -> None: ...
    def finish(self) -> None: ...


def test_going_back_to_a_former_encoder_encodes_nothing(shop: Shop) -> None:
    shop.embed(of("one"))
    before = shop.vectors_file()
    change, back = Told(), Told()
    other = shop.embed(of("two"), progress=change)
    assert (other.encoded, other.before) == (12, "fake")
    again = shop.embed(Unloadable(info("one"), dim=16), progress=back)
    assert (again.encoded, again.reused, again.before) == (0, 12, "fake")
    assert shop.vectors_file() == before
    assert "encodes all 12 items anew" in change.notes[0]
    assert "has made the vectors of all 12 items before" in back.notes[0]
    assert shop.embed(Unloadable(info("one"), dim=16)).before is None


def test_only_what_has_changed_meanwhile_is_encoded(shop: Shop) -> None:
    shop.embed(of("one"))
    shop.embed(of("two"))
    shop.add("new", with_image=True)
    shop.items[0]["title"] = "another title"
    encoder, told = of("one"), Told()
    assert shop.embed(encoder, progress=told).encoded == 2
    assert "encodes 2 of 13 items anew" in told.notes[0]


def test_two_former_encoders_stay_until_they_are_pruned(shop: Shop) -> None:
    for name in ("one", "two", "three", "four"):
        shop.embed(of(name))
    found = previous_vectors(shop.workspace)
    assert [one.fingerprint for one in found] == ["three", "two"]
    assert all(one.bytes > 12 * 8 * 4 for one in found)
    live = shop.version()
    assert prune_previous(shop.workspace) == found
    assert previous_vectors(shop.workspace) == []
    assert shop.version() == live
    assert shop.embed(of("three")).encoded == 12


def test_unfinished_work_of_another_encoder_stays(shop: Shop) -> None:
    shop.embed(of("one"))
    killed = FakeEncoder(info("two"), dim=8)
    encode, calls = killed.encode, []

    def some(items: Any) -> Any:
        calls.append(len(items))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return encode(items)

    killed.encode = some  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        shop.embed(killed)
    shop.add("new", with_image=False)
    shop.embed(of("one"))
    assert shop.embed(of("two")).encoded == 13 - sum(calls[:2])


def test_what_is_left_open_is_as_it_was(shop: Shop) -> None:
    shop.prepare()
    assert with_current_encoder(EmbedSettings(), shop.workspace).model == "builtin"
    made = EmbedSettings(model="some/model", revision="abc", dim=8, batch_size=2)
    embed(shop.workspace, made, planner=planned(of("two")))

    def asked(**said: Any) -> tuple[str, str | None, int | None]:
        found = with_current_encoder(EmbedSettings(**said), shop.workspace)
        return found.model, found.revision, found.dim

    assert asked() == ("some/model", "abc", 8)
    assert asked(dim=4) == ("some/model", "abc", 4)
    assert asked(model="some/model") == ("some/model", "abc", 8)
    assert asked(model="builtin") == ("builtin", None, None)
    assert asked(model="other/model", revision="def") == ("other/model", "def", None)
    assert with_current_encoder(EmbedSettings(batch_size=7), shop.workspace).batch_size == 7
    assert with_current_encoder(EmbedSettings().trusting(), shop.workspace).trusts_code


def test_a_folder_is_found_where_the_workspace_is_now(tmp_path: Path) -> None:
    root = tmp_path / "now" / ".molar"
    (root / "finetuned").mkdir(parents=True)
    (tmp_path / "now" / "models" / "clip").mkdir(parents=True)
    moved = find_model_folder({"model": "/then/.molar/finetuned", "dim": 3}, root)
    assert moved == {"model": str(root / "finetuned"), "dim": 3}
    beside = find_model_folder({"model": "/then/models/clip"}, root)
    assert beside == {"model": str(tmp_path / "now" / "models" / "clip")}
    assert find_model_folder({"model": "/then/gone"}, root) == {"model": "/then/gone"}
    assert find_model_folder({"model": "hub/name"}, root) == {"model": "hub/name"}


def test_settings_that_name_another_encoder_are_told(shop: Shop, tmp_path: Path) -> None:
    told = Told()

    class Shown:
        def __enter__(self) -> Told:
            return told

        def __exit__(self, *_: object) -> None: ...

    shop.embed(of("one"))
    place = molar.Shop(shop.folder, shop.workspace.root, display=Shown)
    settings = tmp_path / "molar.toml"
    settings.write_text('[embed]\nmodel = "builtin-none"\n')
    chosen = place.settings.embed
    note = place._encoder_named(chosen, None)
    assert note == f"{settings} names the encoder builtin-none; without that, builtin would stay"
    assert place._encoder_named(chosen, "builtin-none") == ""
