"""``rules.toml``: what is read, what is refused and how the message helps."""

from pathlib import Path

import pytest

from molar_retrieval.errors import SettingsError
from molar_retrieval.expressions import And, Between, Equals, Not
from molar_retrieval.ranking.rules import Rules, limits

ITEMS = {"item_id": "keyword", "brand": "keyword", "stock": "integer", "year": "integer"}
USERS = {"country": "keyword"}


def load(tmp_path: Path, text: str) -> Rules:
    path = tmp_path / "rules.toml"
    path.write_text(text, "utf-8")
    return Rules.load(path, ITEMS, USERS)


def test_limits_join_conditions_and_names(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        """
        [[rule]]
        require = "stock > 0"
        [[rule]]
        ban = "brand = Acme"
        [[rule]]
        ban = ["7", "8"]
        [[rule]]
        at_most = 2
        per = "brand"
        """,
    )
    active = rules.for_user({})
    assert [rule.rule.title for rule in active] == [
        "require stock > 0",
        "ban brand = Acme",
        "ban 7, 8",
        "max 2 per brand",
    ]
    found = limits(active)
    assert found.where == And((Between("stock", gt=0), Not(Equals("brand", "Acme"))))
    assert found.banned == {"7", "8"}


def test_segments_choose_who_a_rule_is_for(tmp_path: Path) -> None:
    text = '[[rule]]\nboost = "brand = Own"\nfor = "country = JP"\n[[rule]]\nname = "all"\npin = ["1"]\n'
    rules = load(tmp_path, text)
    assert [rule.rule.title for rule in rules.for_user({"country": "JP"})] == ["boost brand = Own", "all"]
    assert [rule.rule.title for rule in rules.for_user({"country": "DE"})] == ["all"]
    assert [rule.rule.title for rule in rules.for_user({})] == ["all"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]]\nboots = 'brand = A'", ["rule 1", "boots", "did you mean 'boost'"]),
        ("[[rules]]\nboost = 'brand = A'", ["rules", "did you mean 'rule'"]),
        ("[[rule]]\nname = 'x'", ["has one of", "none"]),
        ("[[rule]]\nboost = 'brand = A'\nban = ['1']", ["rule 1", "not ban, boost together"]),
        ("[[rule]]\nat_most = 2", ["needs per"]),
        ("[[rule]]\nat_most = 0\nper = 'brand'", ["at_most", "greater than or equal to 1"]),
        ("[[rule]]\nat_least = 1", ["needs of"]),
        ("[[rule]]\nat_most = 2\nper = 'brnad'", ["rule 1 (max 2 per brnad)", "did you mean 'brand'"]),
        ("[[rule]]\nboost = 'brand ='", ["rule 1", "brand ="]),
        ("[[rule]]\nboost = 'colour = red'", ["colour", "brand"]),
        ("[[rule]]\nboost = 'brand = A'\nfor = 'age > 3'", ["age", "country"]),
        ("[[rule]]\nboost = 'brand = A'\nby = -1", ["by", "greater than 0"]),
        ("[[rule]]\npin = ['1']\n[[rule]]\npin = ['2']", ["'1' and '2' are pinned at place 1"]),
        ("[[rule]]\npin = ['1']\n[[rule]]\npin = ['1']\nat = 4", ["'1' is pinned twice"]),
        ("[[rule]]\npin = ['1']\n[[rule]]\nban = ['1']", ["'1' is pinned and banned"]),
        ("[[rule]]\npin = []", ["pin", "at least 1"]),
        ("rule = 3", ["rule"]),
        ("[[rule]\n", ["not valid TOML"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    told = f"{error.value.message} {error.value.hint}"
    for word in words:
        assert word in told, told
    assert "rules.toml" in told


def test_a_segment_needs_users(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nban = ['1']\nfor = 'country = JP'", "utf-8")
    with pytest.raises(SettingsError, match="nothing is known of any") as error:
        Rules.load(path, ITEMS, {})
    assert "segments" in error.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        Rules.load(tmp_path / "none.toml", ITEMS, USERS)
