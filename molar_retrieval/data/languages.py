"""Language identification by py3langid (Lui and Baldwin 2012, "langid.py"), where it is certain enough.

The certainty is the lead of a language's log-likelihood over that of the next one. Names of products and brands have
none: then there is no result.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian",
    "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ms": "Malay", "nl": "Dutch",
    "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak",
    "sl": "Slovenian", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "ta": "Tamil", "te": "Telugu",
    "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
"""The languages that are told apart (ISO 639-1), and what they are called."""

_CLEAR = 12.0
"""Lead in log-likelihood with which one text says its language: none of 6,000 English sentences of a fashion catalogue
and 2 of 6,000 of film plots (these are Italian) then pass for another one."""
_HINT = 5.0  # lead with which a text counts among many
_SENTENCE = re.compile(r"(?<=[.!?;。！？])\s*|\n+")
_LENGTH, _BEGINNING = 2_000, 300  # characters that are looked at of one text, and of one among many
_MOST, _FEWEST, _SHARE, _MAJORITY = 2_000, 5, 0.1, 0.6  # texts that are looked at, and that must agree


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(list(NAMES))
    return identifier


def language_of(text: str, lead: float = _CLEAR) -> str | None:
    """The language (ISO 639-1) of a text's first 2,000 characters; None where another one is within ``lead`` nats."""
    (best, score), (_, second) = _identifier().rank(text[:_LENGTH])[:2]
    return str(best) if score - second >= lead else None


def languages_of(text: str) -> tuple[str, ...]:
    """All languages of which a text has a clear sentence, in their order."""
    found = [language_of(sentence) for sentence in _SENTENCE.split(text[:_LENGTH]) if sentence]
    return tuple(dict.fromkeys(language for language in found if language is not None))


def common_language(texts: Iterable[str]) -> str | None:
    """The language of most of the first 2,000 texts that say one, or None where too few do."""
    sample = [text[:_BEGINNING] for text in islice(texts, _MOST)]
    votes = Counter(filter(None, (language_of(text, _HINT) for text in sample)))
    if not votes or votes.total() < max(_FEWEST, _SHARE * len(sample)):
        return None
    best, count = votes.most_common(1)[0]
    return best if count >= _MAJORITY * votes.total() else None
