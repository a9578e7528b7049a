"""Guessing the language of a catalogue."""

import pytest

from molar_retrieval.catalog.language import guess_language

TEXTS = {
    "en": "A shirt with long sleeves and a collar, made of cotton for the summer",
    "de": "Ein Hemd mit langen Ärmeln und einem Kragen, aus Baumwolle für den Sommer",
    "fr": "Une chemise à manches longues avec un col, en coton pour les jours d'été",
    "es": "Una camisa de manga larga con cuello, de algodón para los días de verano",
    "ru": "Рубашка с длинными рукавами и воротником из хлопка для лета",
    "ja": "夏のための長袖のコットンシャツ",
    "zh": "夏季长袖棉质衬衫",
    "ko": "여름용 긴팔 면 셔츠",
    "el": "Πουκάμισο με μακριά μανίκια και γιακά",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_languages(language, text):
    assert guess_language([text] * 20) == language


@pytest.mark.parametrize("texts", [[], ["", "123"], ["INFLATABLE GLOBE", "DOGGY RUBBER"], ["x the"] * 3])
def test_too_little_evidence(texts):
    assert guess_language(texts) is None
