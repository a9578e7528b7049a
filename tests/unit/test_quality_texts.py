"""Texts, attributes: what is found and what is left alone."""

from collections import Counter

import numpy as np
import pytest

from molar_retrieval.data.languages import language_of, languages_of
from molar_retrieval.ids import IdMap
from molar_retrieval.quality import items as attributes
from molar_retrieval.quality.items import Items, text_hash
from molar_retrieval.quality.texts import check_texts, control_token, double_decoded, is_filler, markup

GERMAN = "Ein schönes Stück für jeden Tag, das mit der Zeit nur besser wird und sich nicht verzieht."
ENGLISH = "This is the one of our dresses that we like the most, and it is made for all of you."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cafÃ© crÃ¨me", "Ã©"),
        ("itâ€™s yours", "â€™"),
        ("GrÃ¶ÃŸe", "Ã¶ÃŸ"),
        ("РџСЂРёРІРµС‚", "РµС‚"),
        ("a\ufffdb", "a\ufffdb"),
        ("café crème, Größe, Łódź, naïve – “soft”", None),
        ("L’été à Besançon, où « Ça » va", None),
        ("„Ä“ ist ein Buchstabe", None),
        ("ÀÉÎÕÜ ÂÊÎÔÛ", None),
        ("25 °C ± 2, 10 µm, ½ price, ©2020 ®", None),
        ("日本語のテキスト 한국어 русский", None),
        ("plain", None),
    ],
)
def test_texts_decoded_twice(text, found):
    assert double_decoded(text) == found


@pytest.mark.parametrize("word", ["é", "ü", "’", "“", "€", "ß", "młotek", "日本", "ж", "🙂", "ñ", "…", "–"])
@pytest.mark.parametrize("coding", ["cp1252", "latin-1"])
def test_every_double_decoding_is_seen(word, coding):
    broken = "".join(chr(b) if coding == "latin-1" else _shown(b) for b in word.encode())
    assert double_decoded(f"some {broken} words") is not None


def _shown(byte):
    return bytes([byte]).decode("cp1252", "ignore") or chr(byte)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<p>Soft</p>", "<p>"),
        ("Soft<br/>warm", "<br/>"),
        ("a &amp; b", "&amp;"),
        ("5&#160;mm", "&#160;"),
        ("<!-- x -->", "<!-- x -->"),
        ("size < 5 and > 3", None),
        ("Tom & Jerry; AT&T; R&B", None),
        ("I <3 it", None),
        ("<bold claims>", None),
    ],
)
def test_markup(text, found):
    assert markup(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x <|endoftext|>", "<|endoftext|>"),
        ("[CLS] x", "[CLS]"),
        ("a</s>", "</s>"),
        ("bell\x07", "U+0007"),
        ("turned \u202e round", "U+202E"),
        ("[sic] [SALE] <3", None),
        ("line\nbreak\ttab", None),
    ],
)
def test_control_tokens(text, found):
    assert control_token(text) == found


def test_fillers():
    assert all(map(is_filler, ("N/A", "null", "TBD.", "Lorem ipsum dolor sit", "{{title}}", "- none -", "test")))
    assert not any(map(is_filler, ("Test tube", "None the richer", "Title fight DVD", "A null modem cable", "Tee")))


def test_languages():
    assert language_of(GERMAN) == "de"
    assert language_of(ENGLISH) == "en"
    assert language_of("Удобная вещь на каждый день") == "ru"
    assert language_of("やわらかい生地で長く楽しめます") == "ja"
    assert language_of("Strap top") is None
    assert languages_of(f"{ENGLISH} {GERMAN}") == ("en", "de")
    assert languages_of(ENGLISH) == ("en",)


def items(n):
    return Items(
        ids=IdMap([f"i{row}" for row in range(n)]),
        file="items.csv",
        numbers=np.arange(1, n + 1),
        photos=[None] * n,
        titles=np.zeros(n, np.uint64),
        bad_photo=np.zeros(n, bool),
        title_column="name",
        description_column="text",
        photo_column=None,
    )


def found(titles, descriptions, language="en"):
    n = len(titles)
    catalogue = items(n)
    catalogue.titles[:] = [text_hash(title) for title in titles]
    out = {}
    for finding in check_texts(catalogue, [(np.arange(n), list(titles), list(descriptions))], language):
        out.setdefault(finding.kind.name, []).append(finding)
    return out


def test_each_fault_is_found_where_it_is():
    titles = ["Dress", None, None, "Coat", "B", "Hat", "Cap", "Shirt"]
    texts = [ENGLISH, ENGLISH + " a", None, "COAT", "Soft and very warm.", GERMAN, f"{ENGLISH} {GERMAN}", "Nice."]
    got = {name: [finding.item_id for finding in all_of] for name, all_of in found(titles, texts).items()}
    assert got == {
        "text.no_title": ["i1"],
        "text.missing": ["i2"],
        "text.title_is_description": ["i3"],
        "text.short": ["i4", "i7"],
        "text.language": ["i5"],
        "text.mixed": ["i6"],
    }


def test_findings_name_file_row_and_column():
    (finding,) = found(["Dress <br>"], [ENGLISH])["text.html"]
    assert (finding.file, finding.row, finding.column) == ("items.csv", 1, "name")
    assert finding.detail.startswith("<br> in: Dress")


def test_variants_may_share_a_description_and_others_may_not():
    same = found(["Dress"] * 6, [ENGLISH] * 6)
    assert "text.repeated" not in same
    others = found([f"Dress {n}" for n in range(6)] + ["Hat"], [ENGLISH] * 6 + ["Another one, made of wool."])
    assert [finding.item_id for finding in others["text.repeated"]] == [f"i{n}" for n in range(6)]


def test_nothing_is_wrong_with_good_texts():
    texts = [f"The one that we like the most is number {n}. Made for {n} of you." for n in range(40)]
    assert found([f"Dress {n}" for n in range(40)], texts) == {}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (["Dresses"] * 40 + ["dresses", "Dresses ", "Drésses"], {"dresses", "Dresses ", "Drésses"}),
        (["Dresses"] * 40 + ["Dreses", "Drseses"], {"Dreses", "Drseses"}),
        (["Dress"] * 40 + ["Dresses", "Tress"], set()),  # words of their own
        (["Shirt"] * 40 + ["Skirt"] * 3, set()),  # not rare enough: a word of its own
        (["EU 38"] * 40 + ["EU 39"], set()),
        (["shirt"] * 40 + ["shirts"], set()),
        (["C"] * 40 + ["C++"], set()),
    ],
)
def test_spellings(values, wrong):
    assert set(attributes.slips_of(Counter(values))) == wrong


def test_words_among_numbers():
    slips = attributes.slips_of(Counter([*map(str, range(50)), "12,5", "ask", "n/a"]))
    assert {value: kind for value, (kind, *_) in slips.items()} == {
        "ask": "attribute.wrong_type",
        "n/a": "attribute.wrong_type",
    }


def test_outliers():
    def outliers(numbers):
        return set(np.flatnonzero(attributes.deviations(numbers) > attributes.OUTLIER).tolist())

    random = np.random.default_rng(0)
    prices = np.round(random.lognormal(3.5, 0.5, 400), 2)
    assert outliers(prices) == set()
    prices[[3, 5, 7]] = [0.0, prices[5] * 1000, prices[7] / 1000]
    assert outliers(prices) == {3, 5, 7}
    years = random.integers(1990, 2024, 400).astype(float)
    assert outliers(years) == set()
    years[9] = 20_190.0
    assert outliers(years) == {9}
    assert outliers(random.choice([1.0, 3.0, 4.0, 4.0, 5.0, 5.0], 400)) == set()
