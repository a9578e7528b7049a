"""The way into the studio: sessions, roles, forms of its own pages alone, headers, languages, files."""

import re
import shutil
import string
import time
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from copies import copy_workspace
from studio_client import StudioClient, studio_client, studio_of_roles, words_of

from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.auth import Keyring
from molar_serving.studio import language, sessions
from molar_serving.studio.app import NAVIGATION, SCREENS
from molar_serving.studio.files import photo_of
from molar_serving.studio.roles import ROLES, allows

STUDIO = Path(str(resources.files("molar_serving.studio")))
SCRIPTS = 120_000


@pytest.fixture(scope="module")
def keyed(trained, tmp_path_factory):
    """A workspace with keys, and somebody of each role."""
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("roles") / ".molar")
    with studio_of_roles(workspace) as people:
        yield workspace, people


@pytest.fixture(scope="module")
def studio(trained):
    with studio_client(trained.workspace) as client:
        yield client


@pytest.fixture(scope="module")
def own(trained, tmp_path_factory):
    """The studio of a workspace that may be changed, without keys."""
    with studio_client(copy_workspace(trained.workspace, tmp_path_factory.mktemp("own") / ".molar")) as client:
        yield client


def test_without_keys_this_machine_is_an_admin(studio):
    page = studio.get("/studio/items")
    assert page.status_code == 200
    assert "admin" in words_of(page)


def test_without_keys_other_names_of_this_machine_are_refused(studio):
    page = studio.client.get("/studio/items", headers={"host": "shop.example"})
    assert page.status_code == 403
    assert "molar keys add" in words_of(page)


def test_who_is_not_signed_in_is_asked_to_and_comes_back(keyed):
    nobody = keyed[1]["nobody"]
    page = nobody.get("/studio/items", q="bag")
    assert (page.status_code, page.headers["location"]) == (303, "/studio/session?next=%2Fstudio%2Fitems%3Fq%3Dbag")
    asked = nobody.get(page.headers["location"])
    assert 'value="/studio/items?q=bag"' in asked.text
    part = nobody.get("/studio/items", part=True)
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/studio/session")


@pytest.mark.parametrize("screen", [one for one in SCREENS if one.role is not None], ids=lambda one: one.path)
def test_every_screen_asks_for_its_role(screen, keyed):
    path = re.sub(r"\{[^}]*\}", "x", screen.path)
    for role in ("nobody", *ROLES):
        answer = keyed[1][role].client.request(
            screen.method,
            path,
            headers={"cookie": "; ".join(f"{name}={value}" for name, value in keyed[1][role].cookies.items())},
            follow_redirects=False,
        )
        if role == "nobody":
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/studio/session?")
        elif not allows(role, screen.role):
            assert answer.status_code == 403
            assert screen.role in words_of(answer)


def test_forms_of_no_page_of_the_session_change_nothing(keyed):
    workspace, people = keyed
    before = _bytes_of(workspace)
    stranger = people["viewer"].token
    for screen in SCREENS:
        if screen.method != "POST" or screen.role is None:
            continue
        path = re.sub(r"\{[^}]*\}", "x", screen.path)
        for token in ("", "0" * 64, stranger, "é"):
            answer = people["admin"].post(path, {"studio_token": token})
            assert answer.status_code == 403, (path, answer.text)
            assert "session" in words_of(answer)
    after = _bytes_of(workspace)
    assert [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)] == []


def test_forms_without_their_fields_are_refused(own):
    without = {"/studio/session/end", "/studio/generations/x/activate", "/studio/experiments/advance/x"}
    without |= {"/studio/changes/x/undo"}  # what they do is said by the path alone
    found = {}
    for screen in SCREENS:
        if screen.method == "POST":
            path = re.sub(r"\{[^}]*\}", "x", screen.path)
            found[path] = own.post(path).status_code
    assert {path: status for path, status in found.items() if status != 422 and path not in without} == {}
    assert found["/studio/session/end"] == 303
    assert {found[path] for path in without - {"/studio/session/end"}} <= {404, 409, 422}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("rules/restore", {"version": ""}),
        ("rules/save", {"toml": ""}),
        ("rules/save", {"etag": ""}),
        ("rules/draft", {"draft": "[]", "etag": "", "do": "burn"}),
        ("rules/draft", {"draft": '[{"ban": ["A"]}]', "etag": "", "do": "remove"}),
        ("rules/draft", {"draft": '[{"ban": ["A"]}]', "etag": "", "do": "move:0:"}),
        ("experiments/stop/x", {"why": "", "keep": "everything"}),
        ("language", {"language": "xx"}),
        ("session", {"key": " "}),
    ],
)
def test_what_a_form_does_not_say_is_not_made_up(own, path, fields):
    answer = own.post(f"/studio/{path}", fields)
    assert answer.status_code == 422, words_of(answer)
    assert "set-cookie" not in answer.headers


def test_the_session_is_sealed_ends_and_goes_with_its_key(keyed, monkeypatch):
    workspace, people = keyed
    ring = Keyring(workspace)
    key = ring.add("leaving", ["studio"])
    somebody = StudioClient(people["admin"].client)
    answer = somebody.sign_in(key)
    flags = answer.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("httponly", "samesite=strict", "path=/studio", "max-age=43200"))
    assert "secure" not in flags
    assert somebody.get("/studio/items").status_code == 200
    name, until, own, seal = somebody.cookies[sessions.COOKIE].split(".")
    for forged in (
        f"admin.{until}.{own}.{seal}", f"{name}.{int(until) + 1}.{own}.{seal}", f"{name}..{own}.{seal}",
        f"{name}.{until}.x.{seal}", f"{name}.{until}..{seal}", f"{name}.{until}.{seal}", f"{name}.{until}.{own}.x",
    ):  # fmt: skip
        forger = StudioClient(somebody.client, {sessions.COOKIE: forged})
        assert forger.get("/studio/items").status_code == 303
    now = time.time()
    monkeypatch.setattr(sessions.time, "time", lambda: now + 43_201)
    assert somebody.get("/studio/items").status_code == 303
    monkeypatch.undo()
    ring.revoke("leaving")
    assert somebody.get("/studio/items").status_code == 303


@pytest.mark.parametrize(("scopes", "status"), [(["answer", "admin"], 403), (["rules"], 403), (None, 401)])
def test_keys_that_do_not_open_the_studio(keyed, scopes, status):
    workspace, people = keyed
    name = f"other-{len(Keyring(workspace).keys())}"
    key = "molar_nobody_x" if scopes is None else Keyring(workspace).add(name, scopes)
    answer = StudioClient(people["admin"].client).sign_in(key)
    assert answer.status_code == status
    assert "--role viewer" in words_of(answer)
    assert "set-cookie" not in answer.headers


def test_the_key_of_a_session_is_nowhere_in_pages_or_cookies(keyed):
    workspace, people = keyed
    key = Keyring(workspace).add("secret", ["studio"])
    somebody = StudioClient(people["admin"].client)
    answer = somebody.sign_in(key)
    secret = key.split("_", 2)[2]
    assert secret not in answer.headers["set-cookie"]
    assert secret not in somebody.get("/studio/items").text
    assert all(secret.encode() not in path.read_bytes() for path in (workspace / "serving").iterdir() if path.is_file())


@pytest.mark.parametrize(
    "address", ["https://evil.example", "//evil.example", "/\\evil.example", "/studioevil", "/studio/\nx", ""]
)
def test_after_signing_in_one_stays_in_the_house(keyed, address):
    key = Keyring(keyed[0]).add(f"house-{len(Keyring(keyed[0]).keys())}", ["studio"])
    somebody = StudioClient(keyed[1]["admin"].client)
    answer = somebody.post("/studio/session", {"key": key, "next": address})
    assert (answer.status_code, answer.headers["location"]) == (303, "/studio")


def test_signing_out_ends_it(keyed):
    answer = keyed[1]["viewer"].post("/studio/session/end")
    assert answer.headers["location"] == "/studio/session"
    assert 'molar_studio=""' in answer.headers["set-cookie"]


def test_pages_let_nothing_in_from_elsewhere(studio):
    page = studio.get("/studio/items")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"


def test_no_script_or_style_lies_in_a_template():
    for template in (STUDIO / "templates").rglob("*.jinja"):
        text = template.read_text("utf-8")
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), template
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe|hx-on", text), template
        assert not re.search(r"(?:src|href|action|hx-get|hx-post)=\"(?:https?:)?//", text), template


def test_scripts_are_small_and_load_nothing_from_elsewhere():
    scripts = list((STUDIO / "static").glob("*.js"))
    assert sum(len(script.read_bytes()) for script in scripts) <= SCRIPTS
    own = [script for script in scripts if not script.name.endswith(".min.js")]
    assert own
    for script in own:
        assert not re.search(r"https?://(?!www\.w3\.org)|innerHTML|eval\(|import\(", script.read_text("utf-8")), script


def test_a_refusal_is_a_page_or_a_part_of_one(studio):
    page, part = studio.get("/studio/items/NO-SUCH"), studio.get("/studio/items/NO-SUCH", part=True)
    assert (page.status_code, part.status_code) == (404, 404)
    assert "<html" in page.text
    assert "<html" not in part.text
    assert "NO-SUCH" in words_of(part)


def test_every_language_has_every_word_with_the_same_values():
    for file in (STUDIO / "words").glob("*.toml"):
        for key, entry in tomllib.loads(file.read_text("utf-8")).items():
            assert set(entry) == set(language.LANGUAGES), f"{file.stem}.{key}"
            fields = {_fields(entry[code]) for code in entry}
            assert len(fields) == 1, f"{file.stem}.{key}: {fields}"


def test_every_word_that_is_asked_for_is_there_and_none_more():
    words = {
        f"{f.stem}.{key}" for f in (STUDIO / "words").glob("*.toml") for key in tomllib.loads(f.read_text("utf-8"))
    }
    text = "\n".join(file.read_text("utf-8") for file in STUDIO.rglob("*") if file.suffix in (".jinja", ".py"))
    asked = set(re.findall(r"""["']([a-z_]+\.[a-z_0-9]*[a-z0-9])["'][,)]""", text))
    asked = {word for word in asked if word.partition(".")[0] in {one.partition(".")[0] for one in words}}
    beginnings = tuple(re.findall(r"""["']([a-z_]+\.(?:[a-z_]+_)?)["'] ~|f["']([a-z_]+\.(?:[a-z_]+_)?)\{""", text))
    beginnings = tuple(filter(None, sum(beginnings, ())))
    assert asked <= words, asked - words
    unused = {word for word in words - asked if not (beginnings and word.startswith(beginnings))}
    assert not unused, unused


@pytest.mark.parametrize(
    ("cookie", "accepted", "code"),
    [
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "fr, ja;q=0.5, en;q=0.1", "ja"),
        (None, "fr", "en"),
        (None, "de;q=oops, ja;q=0.2", "ja"),
        ("ja", "de", "ja"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_chosen_or_the_preferred_one(cookie, accepted, code):
    assert language.preferred(cookie, accepted).code == code


def test_a_language_is_chosen_for_good(studio):
    answer = studio.post("/studio/language", {"language": "ja", "next": "/studio/items"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/studio/items")
    japanese = StudioClient(studio.client, answer.cookies)
    assert 'lang="ja"' in japanese.get("/studio/items").text


def test_numbers_are_written_as_the_language_does():
    assert language.Language("de").number(12345.678, 1) == "12.345,7"
    assert language.Language("ja").number(-12345) == "−12,345"
    assert language.Language("en").percent(0.1234, 1) == "12.3\N{NARROW NO-BREAK SPACE}%"
    assert language.Language("en")("items.more", n=1200).startswith("The first 1,200")


def test_files_and_photos(studio, trained):
    style = studio.get("/studio/static/studio.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert studio.get("/studio/static/..%2fgate.py").status_code == 404
    photos = [one.stem for one in (trained.shop / "images").iterdir()]
    photo = studio.get(f"/studio/photos/{photos[0]}")
    assert (photo.status_code, photo.headers["content-type"]) == (200, "image/jpeg")
    assert studio.get("/studio/photos/NO-SUCH").headers["content-type"] == "image/svg+xml"


def test_a_photo_that_became_a_link_out_of_the_folder_is_not_served(trained, tmp_path):
    shop = shutil.copytree(trained.shop, tmp_path / "shop", ignore=shutil.ignore_patterns(".molar"))
    workspace = Workspace(tmp_path / ".molar")
    prepare_catalogue(shop, workspace)
    photo = next(iter((shop / "images").iterdir()))
    assert photo_of(workspace, photo.stem) == photo.read_bytes()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"\xff\xd8\xff secret")
    photo.unlink()
    photo.symlink_to(secret)
    assert photo_of(workspace, photo.stem) == b""


def test_the_studio_can_be_left_out(trained, tmp_path):
    settings = tmp_path / "molar.toml"
    settings.write_text("[serve]\nstudio = false\n", "utf-8")
    with studio_client(trained.workspace, settings) as studio:
        assert studio.get("/studio/items").status_code == 404


def test_an_address_with_nothing_at_it_is_a_page_that_says_so(studio):
    page = studio.get("/studio/nothing/here")
    assert page.status_code == 404
    assert "no page /studio/nothing/here" in words_of(page)
    assert studio.get("/studio/").headers["location"] == "/studio"


def test_the_navigation_leads_to_screens(studio):
    for address in NAVIGATION.values():
        page = studio.get(address)
        assert page.status_code == 200
        assert "aria-current" in page.text


def _bytes_of(workspace: Path) -> dict[str, bytes]:
    written = ("audit", "answers", "answered", "warnings", "refused")  # by the server, whoever asks for what
    kept = (path for path in workspace.rglob("*") if path.is_file() and not path.name.startswith(written))
    kept = (path.relative_to(workspace) for path in kept)
    return {str(path): (workspace / path).read_bytes() for path in kept if path.parts[0] != "map"}  # made meanwhile


def _fields(text: str | dict[str, str]) -> tuple[str, ...]:
    texts = [text] if isinstance(text, str) else list(text.values())
    return tuple(sorted({name for one in texts for _, name, _, _ in string.Formatter().parse(one) if name}))
