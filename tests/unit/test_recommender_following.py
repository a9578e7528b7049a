"""A recommender follows what is live: published, rolled back, damaged; its rules too. No answer is of two states."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_indexes_generations import release

from molar_indexes import hot_reload
from molar_indexes.answerer import Answerer
from molar_indexes.generations import Generation, rollback
from molar_indexes.recommender import Recommender
from molar_retrieval.errors import RequestError, SettingsError
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace

FILES = Path("/proc/self/fd")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    found = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    release(found, 1, "exact").close()
    return found


@pytest.fixture
def recommender(workspace: Workspace) -> Iterator[Recommender]:
    with Recommender.open(workspace.root) as opened:
        yield opened


def ask(recommender: Recommender) -> tuple[str, int]:
    answer = recommender.query("user 7", k=5)
    marks = {item.payload["mark"] for item in answer.items}
    scores = {item.parts["id_tower"] * 2 for item in answer.items if "cold_start" not in item.parts}
    assert marks == scores, (marks, scores)  # the item's own mark, and that of the user's vector
    return answer.generation, marks.pop()


def opened() -> Iterator[str]:
    for handle in FILES.iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            yield str(handle.readlink())


def damage(workspace: Workspace) -> None:
    folder, _ = workspace["generations"].require()
    (folder / "table.safetensors").unlink()


def test_what_is_published_or_rolled_back_answers_from_the_next_question_on(
    workspace: Workspace, recommender: Recommender
) -> None:
    first = ask(recommender)
    assert first[1] == 1
    with release(workspace, 2, "exact") as published:
        assert ask(recommender) == (published.name, 2)
        assert recommender.similar("item 3", k=4).generation == published.name
    with release(workspace, 3, "edge") as published:
        assert recommender.similar("item 3", k=4).generation == published.name
        assert recommender.generation.name == published.name
    rollback(workspace, first[0])
    assert ask(recommender) == first
    assert recommender.query("user 7").notes == []


@pytest.mark.parametrize("how", ["named", "held"])
def test_a_named_generation_stays(workspace: Workspace, how: str) -> None:
    name = workspace["generations"].require()[0].name
    options: dict[str, Any] = {"generation": name} if how == "named" else {"follow": False}
    with Recommender.open(workspace.root, **options) as recommender:
        release(workspace, 2, "exact").close()
        assert ask(recommender) == (name, 1)


def test_a_damaged_generation_is_refused_with_a_note(
    workspace: Workspace, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(recommender)
    tried = []
    opened = hot_reload.Following._open
    monkeypatch.setattr(hot_reload.Following, "_open", lambda self, source: tried.append(1) or opened(self, source))
    with release(workspace, 2, "exact") as second:
        damage(workspace)
    for _ in range(3):
        assert ask(recommender) == first
        for answer in (
            recommender.query("user 7"),
            recommender.similar("item 3"),
            recommender.query("x", fallback="popular"),
        ):
            (note,) = answer.notes
            assert second.name in note
            assert "table.safetensors is missing" in note
    assert len(tried) == 1  # not tried again and again
    with release(workspace, 3, "exact") as third:
        assert ask(recommender) == (third.name, 3)
        assert recommender.query("user 7").notes == []


def test_a_generation_that_was_refused_is_tried_again_after_a_while(
    workspace: Workspace, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_reload, "_AGAIN", 0.05)
    first = ask(recommender)
    with release(workspace, 2, "exact") as second:
        file = second.folder / "table.safetensors"
        aside = file.rename(file.with_suffix(".aside"))
        assert ask(recommender) == first
        aside.rename(file)
        time.sleep(0.06)
        assert ask(recommender) == (second.name, 2)


def test_a_workspace_that_went_away_leaves_the_answers(workspace: Workspace, recommender: Recommender) -> None:
    first = ask(recommender)
    (workspace["generations"].root / "current").unlink()
    assert ask(recommender) == first
    (note,) = recommender.query("user 7").notes
    assert "no generations yet" in note


def test_a_closed_recommender_answers_nothing(recommender: Recommender) -> None:
    recommender.close()
    recommender.close()
    with pytest.raises(RequestError, match="closed"):
        recommender.query("user 7", fallback="error")


def test_lists_of_many_stay_on_the_generation_that_they_began_with(workspace: Workspace) -> None:
    recommender = Recommender.open(workspace.root)
    users, old = recommender.generation.users.between(0, 40), recommender.generation
    wanted = [[(p.row, p.score) for p in listing.places] for listing in recommender.rank_many(users, Query(k=3))]
    lists = recommender.rank_many(users, Query(k=3))
    never_begun = recommender.rank_many(users, Query(k=3))
    first = next(lists)
    with release(workspace, 2, "exact"):
        assert ask(recommender)[1] == 2
        assert old.users.get("user 7") is not None  # still open
        found = [[(p.row, p.score) for p in listing.places] for listing in (first, *lists)]
        assert found == wanted
        assert old.users.get("user 7") is not None
        del never_begun
        with pytest.raises(Exception, match="closed"):
            old.users.get("user 7")
    recommender.close()


def test_answers_under_load_are_each_of_one_generation(workspace: Workspace, recommender: Recommender) -> None:
    """Twenty publications and rollbacks while threads ask; in the end no more files are open than at the beginning."""
    marks = {workspace["generations"].require()[0].name: 1}
    stop, errors, answers = threading.Event(), [], []

    def work() -> None:
        while not stop.is_set():
            try:
                answers.append(ask(recommender))
            except BaseException as error:
                errors.append(error)

    def files() -> int:
        """How many files below the workspace this process holds open; those of other tests may close meanwhile."""
        return sum(path.startswith(str(workspace.root)) for path in opened()) if FILES.is_dir() else 0

    ask(recommender)
    release(workspace, 1, "exact").close()
    ask(recommender)
    before = files()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(20):
            if turn % 4 == 3:
                rollback(workspace)
            else:
                release(workspace, turn + 2, ("exact", "edge")[turn % 2]).close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    folders = [folder for folder in workspace["generations"].root.iterdir() if folder.is_dir()]
    assert len(folders) <= 3  # superseded ones were let go
    assert ask(recommender)[0] == workspace["generations"].pointer
    seen: dict[str, set[int]] = {}
    for name, mark in answers:
        seen.setdefault(name, set()).add(mark)
    assert all(len(own) == 1 for own in seen.values())
    assert len(seen) >= 5
    release(workspace, 1, "exact").close()
    ask(recommender)
    assert 0 < files() == before or not FILES.is_dir()
    assert marks.keys() <= seen.keys() | marks.keys()


@pytest.mark.parametrize("named", [True, False])
def test_rules_are_read_again_when_they_change(workspace: Workspace, tmp_path: Path, named: bool) -> None:
    path = tmp_path / ("own.toml" if named else "rules.toml")
    path.write_text("[[rule]]\nrequire = 'new = true'\n", "utf-8")
    with Recommender.open(workspace.root, rules=path if named else None) as recommender:

        def brands() -> set[str]:
            return {item.payload["brand"] for item in recommender.query("user 7", k=50).items}

        assert {item.payload["new"] for item in recommender.query("user 7", k=50).items} == {True}
        path.write_text("[[rule]]\nban = 'brand = \"brand 1\"'\n", "utf-8")
        assert brands() == {"brand 0", "brand 2"}
        path.write_text("[[rule]]\nban = 'brnd = 1'\n", "utf-8")
        assert brands() == {"brand 0", "brand 2"}
        (note,) = recommender.query("user 7").notes
        assert "the rules of before hold" in note
        assert "brnd" in note
        with release(workspace, 2, "exact") as published:  # it does not answer as long as its rules cannot be read
            assert ask(recommender)[1] == 1
            assert brands() == {"brand 0", "brand 2"}
        path.write_text("[[rule]]\nban = 'brand = \"brand 2\"'\n", "utf-8")
        assert brands() == {"brand 0", "brand 1"}
        recommender._following._again = 0.0
        assert ask(recommender) == (published.name, 2)
        assert brands() == {"brand 0", "brand 1"}
        assert recommender.query("user 7").notes == []
        path.unlink()
        if named:
            assert brands() == {"brand 0", "brand 1"}
            assert "cannot be read" in recommender.query("user 7").notes[0]
        else:
            assert brands() == {"brand 0", "brand 1", "brand 2"}


def test_rules_that_were_wrong_from_the_beginning_are_an_error_until_they_are_right(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nban = 'brnd = 1'\n", "utf-8")
    with Recommender.open(workspace.root) as recommender:
        for _ in range(2):
            with pytest.raises(SettingsError, match="brnd"):
                recommender.query("user 7")
            assert recommender.query("user 7", rules=False).items
        release(workspace, 2, "exact").close()
        assert recommender.query("user 7", rules=False).items[0].payload["mark"] == 2
        path.write_text("[[rule]]\nban = 'brand = \"brand 1\"'\n", "utf-8")
        assert recommender.query("user 7").notes == []


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_following_ahead_asks_the_latest_questions_before_anybody_is_answered(
    workspace: Workspace, recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender.follow_ahead(every=0.01)
    for k in range(1, 8):
        recommender.query("user 7", k=k)
    recommender.similar("item 3", k=2)
    asked: list[tuple[str, str, int]] = []
    real = Answerer.query

    def query(self: Answerer, user_id: str | None, session_id: str | None, query: Query, *more: Any) -> Any:
        asked.append((threading.current_thread().name, self.generation.name, query.k))
        return real(self, user_id, session_id, query, *more)

    monkeypatch.setattr(Answerer, "query", query)
    with release(workspace, 2, "exact") as published:
        until(lambda: recommender.generation.name == published.name)
        assert asked == [("follow", published.name, k) for k in range(7, 0, -1)]
        assert ask(recommender) == (published.name, 2)
    rollback(workspace)
    recommender.catch_up()
    assert ask(recommender)[1] == 1


def test_what_is_vetted_and_must_not_answer_is_told_and_the_former_goes_on(
    workspace: Workspace, recommender: Recommender
) -> None:
    first = ask(recommender)
    bad: list[str] = []

    def vetted(generation: Generation) -> None:
        if generation.manifest.facts["mark"] == 2:
            bad.append(generation.name)
            raise ValueError("it is damaged")  # as any library may say it

    recommender.follow_ahead(vetted, every=0.01)
    with release(workspace, 2, "exact") as second:
        until(lambda: recommender.refused)
    assert ask(recommender) == first
    assert recommender.refused == recommender.query("user 7").notes[0]
    assert "it is damaged" in str(recommender.refused)
    with release(workspace, 3, "exact") as third:
        until(lambda: ask(recommender) == (third.name, 3))
    assert recommender.refused is None
    assert bad == [second.name]
