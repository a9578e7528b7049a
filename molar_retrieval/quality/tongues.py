"""In which language one text is, where it says so clearly: by its script, else by the commonest little words."""

import re
from collections import Counter
from functools import lru_cache

_LITTLE_WORDS = {
    "en": "the and of with for is to from his her this that are by on you your it its in as at or not which have has be"
    " an when all our we can",
    "de": "der die das und mit für ist von ein eine im den dem aus auf nicht sich auch bei oder einen einem einer zum"
    " zur wie wird durch sie wir ihr sind nach dieser dieses",
    "fr": "de le la les et des avec pour une est du dans sur aux par que cette un ce qui vous votre nous sont ou au en"
    " elle il son sa ses plus très",
    "es": "de la el los las y con para una es del en su por que como más sus un se al lo sin muy este esta son tu",
    "it": "il gli della con per una è di nel che dei alla sono del questo più la le un lo in si da al dal delle anche",
    "pt": "de a o os e com para uma é do da em não por que dos mais ao um na no seu sua se como muito são",
    "nl": "de het een en van met voor is op zijn dat deze uit niet naar wordt te aan je ook door bij in om als",
    "sv": "och en ett med för är av som på till den det från inte har i de du din eller att om kan",
    "pl": "i w z na do się jest dla nie od po przez oraz to jak ze że są który która ten ta",
    "tr": "ve bir ile için bu da de olan çok en olarak daha gibi ne her kadar olan ya mi",
}
_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
)
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_LENGTH = 2_000
_FEWEST = 3
"""Little words of a language without which a text does not say which it is in."""


@lru_cache(maxsize=1)
def _languages() -> dict[str, tuple[str, ...]]:
    """The languages in which each little word occurs."""
    found: dict[str, list[str]] = {}
    for language, little in _LITTLE_WORDS.items():
        for word in set(little.split()):
            found.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in found.items()}


def language_of(text: str) -> str | None:
    """The language (ISO 639-1) of a text, or None where it does not say.

    A script of one language decides if a third of the letters are in it (Cyrillic counts as Russian). In Latin script,
    the language with the most little words if it has three and twice as many as the next.
    """
    text = text[:_LENGTH]
    if not text.isascii():
        letters = sum(map(len, _WORD.findall(text)))
        for language, script in _SCRIPTS:
            if len(script.findall(text)) > (0.1 if language == "ja" else 0.34) * max(letters, 1):
                return language
    counts: Counter[str] = Counter()
    known = _languages()
    for word in _WORD.findall(text.lower()):
        counts.update(known.get(word, ()))
    best = counts.most_common(2)
    if not best or best[0][1] < _FEWEST or (len(best) > 1 and best[0][1] < 2 * best[1][1]):
        return None
    return best[0][0]


def languages_of(text: str) -> tuple[str, ...]:
    """All languages of which a text has a sentence that says so, in their order."""
    found = [language_of(sentence) for sentence in _SENTENCE.split(text[:_LENGTH])]
    return tuple(dict.fromkeys(language for language in found if language is not None))
