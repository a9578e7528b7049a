"""The report on privacy: what the page says is in the file of facts, and every fact is where its source says."""

import json
import re
import shutil
import string
import tomllib
from html import unescape
from importlib import resources
from itertools import combinations
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from eval_model_tasks import log_of

import molar
from molar_indexes.privacy.report.facts import leakage_of
from molar_indexes.privacy.report.page import BLANKS
from molar_retrieval.errors import DataError, RequestError, SettingsError
from molar_retrieval.reports.wording import LANGUAGES, PageWords
from molar_serving.auth import Scope

SETTINGS = (
    '[costs]\nmachine_hour = 36\nwatts = 90\ncurrency = "EUR"\n[events]\nkeep_days = 90\n'
    "[serve]\nresponse_ttl_minutes = 2.5\n"
)
LINE = re.compile(r'<dd data-fact="([^"]+)"><b>(.*?)</b>(.*?)<small>(.*?)</small></dd>', re.S)
NUMBER = re.compile(r"\d+")
WORDS = tomllib.loads((resources.files("molar_indexes.privacy.report") / "page.toml").read_text("utf-8"))
SCALE = {"share": 0.01, "bytes": 1e6, "seconds": 3600}


@pytest.fixture(scope="module")
def shop(trained, tmp_path_factory):
    settings = tmp_path_factory.mktemp("settings") / "molar.toml"
    settings.write_text(SETTINGS, "utf-8")
    return molar.Shop(trained.shop, trained.workspace, settings)


@pytest.fixture(scope="module")
def out(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("papers")
    for language in LANGUAGES:
        shop.privacy.report(folder / language, language=language)
    return folder


def facts_of(folder):
    told = json.loads((folder / "facts.json").read_text("utf-8"))
    return {f"{part}.{name}": one for part, own in told.items() if part != "made" for name, one in own.items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_of_the_page_is_a_fact_and_every_fact_is_on_the_page(out, language):
    facts, page = facts_of(out / language), (out / language / "report.html").read_text("utf-8")
    lines = {key: (unescape(value), unescape(source)) for key, value, _, source in LINE.findall(page)}
    assert lines.keys() == facts.keys()
    t = PageWords(language, "molar_indexes.privacy.report", "page.toml")
    for key, (shown, source) in lines.items():
        assert source == facts[key]["from"]
        assert_shows(shown, facts[key]["value"], facts[key]["unit"], t)
    made = json.loads((out / language / "facts.json").read_text("utf-8"))["made"]
    body = page[page.index("<main") :]
    rest = unescape(re.sub(r"<[^>]+>", " ", LINE.sub("", body)))
    known = {
        *NUMBER.findall(json.dumps([WORDS, *facts])),
        *NUMBER.findall(made),
        str(int(made[8:10])),
        str(int(made[5:7])),
    }
    assert set(NUMBER.findall(rest)) <= known  # articles of law, names, the day


def assert_shows(shown, value, unit, t):
    """The words of a value hold the number, to the last digit that they show."""
    if isinstance(value, bool):
        assert shown == t("yes" if value else "no")
    elif isinstance(value, list):
        assert shown == ", ".join(value) or t("none")
    elif value is None or isinstance(value, str):
        assert value is None or shown == (value or t("none"))
    elif unit == "moment":
        assert shown == t.day(value * 1_000_000)
    else:
        thousands, point = {"en": ",.", "de": ".,", "ja": ",."}[t.code]
        text = re.search(r"[\d.,]+", shown)[0].replace(thousands, "").replace(point, ".")
        step = 10.0 ** -len(text.partition(".")[2])
        off = abs(float(text) - value / SCALE.get(unit, 1))
        assert off <= (step / 2 * 1.001 if unit in ("share", "score", "bytes", "seconds", "money") else 0)


def test_facts_of_manifests_and_settings_are_where_their_sources_say(out, shop):
    read = 0
    for key, fact in facts_of(out / "en").items():
        place, _, path = fact["from"].partition(": ")
        if place.endswith("manifest.json") and re.fullmatch(r"[\w.@-]+", path) and fact["unit"] != "yes":
            found = json.loads((shop.workspace / place).read_text("utf-8"))
            for name in path.split("."):
                found = found[name]
            if fact["unit"] == "list":
                found = list(filter(None, found.values()))
            assert fact["value"] == (len(found) if isinstance(found, list) and fact["unit"] == "count" else found), key
        elif place == "settings" and re.fullmatch(r"\w+\.\w+", path):
            section, name = path.split(".")
            assert fact["value"] == getattr(getattr(shop.settings, section), name), key
        else:
            continue
        read += 1
    assert read > 40


def test_what_is_counted_is_what_the_files_hold(out, shop):
    facts = {key: fact["value"] for key, fact in facts_of(out / "en").items()}
    log = pq.read_table(next(shop.workspace.glob("interactions/*/interactions.parquet"))).to_pydict()
    assert facts["data.interactions"] == len(log["user"])
    histories = {}
    for user, item in zip(log["user"], log["item"], strict=True):
        histories.setdefault(user, set()).add(item)
    expected = measured_by_loops(histories.values(), 5)
    assert (facts["leakage.pairs"], facts["leakage.people_two"]) == (expected[0], expected[2])
    assert facts["leakage.pairs_below"] == pytest.approx(expected[1] / expected[0])
    assert facts["leakage.people_alone"] == pytest.approx(expected[3] / expected[2])
    done = [json.loads(line) for line in (shop.workspace / "work/log.jsonl").read_text("utf-8").splitlines()]
    assert facts["costs.took_all"] == pytest.approx(sum(one["seconds"] for one in done))
    assert facts["costs.money_all"] == pytest.approx(facts["costs.took_all"] / 100, abs=1e-4)
    assert facts["costs.energy_all"] == pytest.approx(facts["costs.took_all"] * 90 / 3600, abs=1e-2)
    folder = shop.workspace / "alignment" / (shop.workspace / "alignment" / "current").read_text("utf-8").strip()
    shares = json.loads((folder / "manifest.json").read_text("utf-8"))["facts"]["shares"]
    told = {key.removeprefix("ranking.part/"): one for key, one in facts.items() if ".part/" in key}
    assert told == {name: share for name, share in shares.items() if share}


def measured_by_loops(histories, least):
    people = {}
    for own in histories:
        for pair in combinations(sorted(own), 2):
            people.setdefault(pair, []).append(id(own))
    alone = {who[0] for who in people.values() if len(who) == 1}
    few = sum(len(who) < least for who in people.values())
    return len(people), few, sum(len(own) > 1 for own in histories), len(alone)


@pytest.mark.parametrize("least", [2, 4])
def test_leakage_is_what_loops_find(least):
    random = np.random.default_rng(3)
    histories = [list(random.permutation(12)[: random.integers(1, 6)]) for _ in range(40)]
    found = leakage_of(log_of([*histories, [1, 1], [0, 11, 0]], 14), least)
    expected = measured_by_loops([set(own) for own in [*histories, [1], [0, 11]]], least)
    assert (found.pairs, found.few, found.people, found.alone) == expected
    assert 0 < found.alone < found.people


def test_what_people_have_filled_in_is_shown_and_stays(shop, tmp_path):
    first = shop.privacy.report(tmp_path / "p")
    assert len(first.blanks) == sum(map(len, BLANKS.values()))
    page = first.page.read_text("utf-8")
    assert page.count("to be filled by") == len(first.blanks)
    text = first.filled.read_text("utf-8").replace('controller = ""', 'controller = "A & B <shop>"')
    first.filled.write_text(text + "# a note\n", "utf-8")
    again = shop.privacy.report(tmp_path / "p", language="de")
    assert set(first.blanks) - set(again.blanks) == {"controller"}
    assert first.filled.read_text("utf-8") == text + "# a note\n"
    assert "A &amp; B &lt;shop&gt;" in again.page.read_text("utf-8")
    first.filled.write_text('controler = "x"', "utf-8")
    with pytest.raises(SettingsError, match="unknown key 'controler'") as wrong:
        shop.privacy.report(tmp_path / "p")
    assert "controller" in wrong.value.hint
    first.filled.write_text("controller = 1", "utf-8")
    with pytest.raises(SettingsError, match="controller is no text"):
        shop.privacy.report(tmp_path / "p")


def test_where_it_cannot_be_written_or_said(shop, tmp_path):
    with pytest.raises(RequestError, match="speaks no 'fr'"):
        shop.privacy.report(tmp_path / "p", language="fr")
    (tmp_path / "file").write_text("", "utf-8")
    for place in (tmp_path / "file", tmp_path / "none" / "p"):
        with pytest.raises(DataError, match="cannot be written"):
            shop.privacy.report(place)


def test_events_alone_are_told_and_what_was_not_made_is_not(tmp_path, monkeypatch):
    made = molar.demo(tmp_path, items=40, users=20)
    item = pq.read_table(made.facts.folder / "items.parquet")["item_id"][0].as_py()
    event = {"event_id": "1", "event": "view", "user_id": "u1", "item_id": item, "timestamp": "2026-01-02T00:00:00Z"}
    bought = event | {"event_id": "2", "event": "purchase", "timestamp": "2026-01-05T00:00:00Z"}
    assert made.shop.events.append([event, bought]).accepted == 2
    made.shop.workspace.chmod(0o700)
    (made.shop.workspace / "serving").mkdir(exist_ok=True)
    keys = [{"scopes": ["answer", "studio"]}, {"scopes": ["answer"], "origins": ["https://shop.example"]}, {}]
    (made.shop.workspace / "serving/keys.json").write_text(json.dumps({"keys": keys}), "utf-8")
    monkeypatch.setenv("MOLAR_SERVE_CERTIFICATE", "tls.pem")
    monkeypatch.setenv("MOLAR_INDEX_URL", "http://127.0.0.1:6333")
    monkeypatch.setenv("MOLAR_INDEX_USERS", "server")
    facts = {key: one["value"] for key, one in facts_of(made.shop.privacy.report(tmp_path / "p").page.parent).items()}
    assert (facts["data.events/view"], facts["data.events/purchase"]) == (1, 1)
    assert facts["data.events_last"] - facts["data.events_first"] == 3 * 86_400
    assert "copies.place/events" in facts
    assert (facts["measures.mode"], facts["risks.readers"]) == ("0700", True)
    assert (facts["readers.keys"], facts["readers.browsers"]) == (3, 1)
    scopes = {key.partition("/")[2]: value for key, value in facts.items() if key.startswith("readers.scope/")}
    assert {name: count for name, count in scopes.items() if count} == {"answer": 2, "studio": 1}
    assert set(scopes) == set(get_args(Scope))
    assert (facts["risks.network"], facts["risks.server"], facts["risks.storage"]) == (True, False, False)
    assert not any(key.startswith(("model.", "leakage.")) for key in facts)
    for broken in ("{", '{"keys": ["x"]}'):
        (made.shop.workspace / "serving/keys.json").write_text(broken, "utf-8")
        with pytest.raises(DataError, match=r"keys\.json cannot be read"):
            made.shop.privacy.report(tmp_path / "p")


def test_the_model_is_the_one_that_answers_and_answers_have_their_price(shop, tmp_path):
    big = shutil.ignore_patterns("index", "*.safetensors", "users.sqlite", "answers.sqlite*", "content")
    workspace = copy_workspace(shop.workspace, tmp_path / "copy", ignore=big)
    path = next(workspace.glob("alignment/*/manifest.json"))
    path.write_text(path.read_text("utf-8").replace('"preset": "default"', '"preset": "best"'), "utf-8")
    own = molar.Shop(shop.catalogue, workspace, shop.settings_file)
    facts = facts_of(own.privacy.report(tmp_path / "p").page.parent)
    assert facts["model.preset"]["value"] == "default"
    assert facts["model.preset"]["from"].startswith("generations/")
    path = next(workspace.glob("generations/*/manifest.json"))
    told = json.loads(path.read_text("utf-8"))
    told["facts"]["slots"] = [9, 10]
    path.write_text(json.dumps(told), "utf-8")
    places = facts_of(own.privacy.report(tmp_path / "p").page.parent)["ranking.newcomer_places"]
    assert (places["value"], places["from"].rpartition(".")[2]) == (2, "slots")
    shutil.rmtree(workspace / "generations")
    facts = facts_of(own.privacy.report(tmp_path / "p").page.parent)
    assert facts["model.preset"]["value"] == "best"
    assert "ranking.newcomers" not in facts


def test_words_are_there_in_all_languages_with_the_same_places():
    for name, texts in WORDS.items():
        assert set(texts) == set(LANGUAGES), name
        places = [{field for _, field, _, _ in string.Formatter().parse(text) if field} for text in texts.values()]
        assert places[0] == places[1] == places[2], name
