"""Saying so where a catalogue is not in the encoder's language, and only then."""

import pytest

from molar_retrieval.data.languages import common_language
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.encoders.base import language_note as note_on

TEXTS = {
    "en": ["A cotton shirt with long sleeves for the summer", "Trousers made of wool, and a belt is included"],
    "de": ["Ein Hemd aus Baumwolle mit langen Ärmeln für den Sommer", "Die Hose ist aus Wolle und mit Gürtel"],
    "fr": ["Une chemise en coton avec des manches pour l'été", "Le pantalon est en laine et la ceinture est incluse"],
    "es": ["Una camisa de algodón con mangas largas para el verano", "El pantalón es de lana y con cinturón"],
    "ru": ["Хлопковая рубашка с длинными рукавами для лета", "Шерстяные брюки с поясом"],
    "ja": ["夏用の長袖の綿シャツ。軽くて涼しい", "ウールのズボンとベルトのセット"],
    "zh": ["夏季长袖纯棉衬衫，轻便凉爽透气", "羊毛长裤配腰带套装，舒适保暖"],
    "ko": ["여름용 긴팔 면 셔츠, 가볍고 시원합니다", "벨트가 포함된 울 바지 세트입니다"],
    "pl": ["Koszula z bawełny z długimi rękawami na lato", "Spodnie z wełny oraz pasek w zestawie do nich"],
}


def language_note(encoder, texts):
    return note_on(encoder, common_language(texts))


def info(*languages):
    return EncoderInfo("builtin", "builtin", "1", "MIT", ("text",), "f", languages)


@pytest.mark.parametrize("language", TEXTS)
def test_only_english_fits_an_english_encoder(language):
    message = language_note(info("en"), TEXTS[language] * 20)
    assert (message is None) == (language == "en")
    if message:
        assert "builtin-multilingual" in message


@pytest.mark.parametrize("language", TEXTS)
def test_multilingual_and_silent_encoders_fit_everything(language):
    assert language_note(info("mul"), TEXTS[language] * 20) is None
    assert language_note(info(), TEXTS[language] * 20) is None
    assert language_note(info(language), TEXTS[language] * 20) is None


def test_an_encoder_of_another_language():
    assert "English" in language_note(info("de"), TEXTS["en"] * 20)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["", "  "],
        ["12345", "€ 9.99"] * 100,
        ["T-shirt Basic", "Chino Slim", "Parka XL"] * 50,  # names: no evidence
        [
            "Toy Story (1995)",
            "Amélie (2001)",
            "Heat (1995)",
            "Sabrina (1995)",
            "Twelve Monkeys (1995)",
            "Sudden Death (1995)",
        ]
        * 30,
        TEXTS["en"] * 20 + TEXTS["ja"] * 3,  # a few foreign items
    ],
)
def test_nothing_is_said_without_evidence(texts):
    assert language_note(info("en"), texts) is None


def test_titles_alone_speak_against_an_encoder_of_another_language():
    titles = ["Tričko krátký rukáv", "Dámské kalhoty široké", "Pánská košile bílá"] * 30
    assert "Czech" in language_note(info("en"), titles)
    assert language_note(info("cs"), titles) is None


def test_the_note_names_the_command_and_the_language_that_catalog_toml_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    note = note_on(info("en"), "de-AT", tmp_path / "my shop")
    assert note.startswith("the catalogue is German, and the encoder 'builtin' understands English only: ")
    assert note.endswith("molar embed 'my shop' --model builtin-multilingual")
    assert note_on(info("en"), "en-GB") is None


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ml-1m", "hm", "online-retail"])
def test_the_real_catalogues_are_english(real_data, name):
    import pyarrow.parquet as pq

    table = pq.read_table(real_data(name) / "items.parquet")
    columns = [table[column].to_pylist() for column in ("title", "description") if column in table.column_names]
    texts = [" ".join(value for value in row if value) for row in zip(*columns, strict=True)]
    assert language_note(info("en"), texts) is None
