"""Which language a catalogue is written in, roughly: by script, and by the commonest little words."""

import re
from collections import Counter
from collections.abc import Iterable

_LITTLE_WORDS = {
    "en": "the and of with for in is to from his her this that are by on",
    "de": "der die das und mit für ist von ein eine im den dem aus auf nicht",
    "fr": "de le la les et des avec pour une est du dans sur aux par que cette",
    "es": "de la el los las y con para una es del en su por que como más sus",
    "it": "il gli della con per una è di nel che dei alla sono del questo più",
    "pt": "de a o os e com para uma é do da em não por que dos mais ao",
    "nl": "de het een en van met voor is op zijn dat deze uit niet naar wordt",
    "sv": "och en ett med för är av som på till den det från inte har i",
    "pl": "i w z na do się jest dla nie od po przez oraz to jak ze",
    "tr": "ve bir ile için bu da de olan çok en olarak daha gibi ne her kadar",
}
_SCRIPTS = {
    "ja": r"[\u3040-\u30ff]",
    "ko": r"[\uac00-\ud7af]",
    "zh": r"[\u4e00-\u9fff]",
    "ru": r"[\u0400-\u04ff]",
    "ar": r"[\u0600-\u06ff]",
    "el": r"[\u0370-\u03ff]",
    "he": r"[\u0590-\u05ff]",
    "th": r"[\u0e00-\u0e7f]",
    "hi": r"[\u0900-\u097f]",
}
_MOST = 2_000
_LENGTH = 300
_FEW = 20
_WORD = re.compile(r"[^\W\d_]+")


def guess_language(texts: Iterable[str]) -> str | None:
    """The language of some texts (ISO 639-1), or None where they do not say.

    Scripts of one language decide by themselves (Cyrillic counts as Russian, Han without kana as Chinese); in Latin
    script the language whose little words are the most frequent, if it is clearly ahead of the others.

    Args:
        texts: The first 300 characters of the first 2,000 are looked at.
    """
    sample = " ".join(text[:_LENGTH] for text, _ in zip(texts, range(_MOST), strict=False)).lower()
    letters = sum(map(len, _WORD.findall(sample)))
    for language, script in _SCRIPTS.items():
        if len(re.findall(script, sample)) > (0.1 if language == "ja" else 0.3) * max(letters, 1):
            return language
    words = Counter(_WORD.findall(sample))
    scores = {language: sum(words[word] for word in little.split()) for language, little in _LITTLE_WORDS.items()}
    (first, most), (_, second) = Counter(scores).most_common(2)
    return first if most >= _FEW and most >= 1.5 * second else None
