"""Telling the language of a text and of a catalogue, where they say so."""

import pytest

from molar_retrieval.data.languages import NAMES, common_language, language_of, languages_of

TEXTS = {
    "bg": ["Мека памучна риза с яка", "Красива ръчно изработена чаша от синя керамика"],
    "cs": ["Měkká bavlněná košile s límečkem", "Krásný ručně vyrobený hrnek z modré keramiky"],
    "da": ["Blød bomuldsskjorte med krave og knapper i siden", "Et smukt håndlavet krus i blå keramik, som tåler vand"],
    "de": ["Weiches Baumwollhemd mit Kragen", "Schöne handgemachte Tasse aus blauer Keramik"],
    "el": ["Πουκάμισο με μακριά μανίκια", "Φλιτζάνι από μπλε κεραμικό"],
    "en": ["Soft cotton shirt with collar and buttons", "A beautiful handmade mug of blue ceramic"],
    "es": ["Camisa de algodón suave con cuello", "Una hermosa taza hecha a mano de cerámica azul"],
    "fi": ["Pehmeä puuvillapaita kauluksella", "Kaunis käsintehty muki sinisestä keramiikasta"],
    "fr": ["Chemise en coton doux avec col", "Une belle tasse artisanale en céramique bleue"],
    "it": ["Camicia in morbido cotone con colletto", "Una bella tazza fatta a mano in ceramica blu"],
    "ja": ["柔らかい綿のシャツ", "青い陶器の手作りマグカップ"],
    "ko": ["부드러운 면 셔츠", "파란 도자기 수제 머그컵"],
    "nl": ["Zacht katoenen overhemd met kraag", "Een prachtige handgemaakte mok van blauw keramiek"],
    "no": [
        "Myk bomullsskjorte med krage og knapper på siden",
        "Et vakkert håndlaget krus i blå keramikk",
    ],
    "pl": ["Miękka bawełniana koszula z kołnierzykiem", "Piękny ręcznie robiony kubek z niebieskiej ceramiki"],
    "pt": ["Camisa de algodão macio com gola", "Uma bela caneca artesanal de cerâmica azul"],
    "ru": ["Мягкая хлопковая рубашка с воротником", "Красивая кружка ручной работы из синей керамики"],
    "sv": ["Mjuk bomullsskjorta med krage och knappar på sidan", "Varma strumpor för vintern"],
    "tr": ["Yakalı yumuşak pamuklu gömlek", "Mavi seramikten el yapımı güzel bir kupa"],
    "uk": ["М'яка бавовняна сорочка з коміром", "Гарна кружка ручної роботи із синьої кераміки"],
    "zh": ["夏季长袖纯棉衬衫，轻便凉爽透气", "蓝色陶瓷手工杯"],
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_catalogue_has_the_language_of_its_texts(language):
    assert common_language(TEXTS[language] * 10) == language


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_is_never_taken_for_one_in_another_language(language):
    assert {language_of(text) for text in TEXTS[language]} <= {language, None}


def test_languages_of_a_text_come_in_their_order():
    english, german = TEXTS["en"][1], TEXTS["de"][1]
    assert languages_of(f"{english}. {german}.") == ("en", "de")
    assert languages_of(f"{english}\n{english}") == ("en",)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["", "123"],
        ["12345", "€ 9.99"] * 100,
        ["INFLATABLE GLOBE", "DOGGY RUBBER"],
        ["T-shirt Basic", "Chino Slim", "Parka XL"] * 50,
        ["x the"] * 3,
        TEXTS["en"] * 5 + TEXTS["de"] * 5,
    ],
)
def test_too_little_evidence(texts):
    assert common_language(texts) is None


def test_every_language_has_a_name_and_a_model():
    from molar_retrieval.data.languages import _identifier

    assert set(_identifier().labels) == set(NAMES)
