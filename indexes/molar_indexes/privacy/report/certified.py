"""The page of a certificate, in English, German or Japanese: it shows what the certificate says, no more."""

from dataclasses import dataclass
from datetime import datetime

from molar_indexes.privacy.certificate import Certificate
from molar_indexes.privacy.report.page import words_in
from molar_retrieval.reports.html import render_page
from molar_retrieval.reports.wording import PageWords

_PACKAGE = "molar_indexes.privacy.report"
_FILES = 200
"""Files that the page names; the certificate has all."""


@dataclass(frozen=True)
class CertifiedLine:
    """Somebody, as the page tells it: what they asked for, when, their hashes, what was found before and after."""

    asked: str
    hashes: str
    before: str
    after: str


def certificate_page(certificate: Certificate, language: str) -> str:
    """The page; a RequestError if there are no words in that language."""
    words_in(language)
    t = PageWords(language, _PACKAGE, "certificate.toml")
    people = [
        CertifiedLine(
            t(f"asked_{one.kind}", day=_day(one.at, t)),
            ", ".join(one.hashes),
            t("not_looked") if one.before is None else t("found", **vars(one.before)),
            t("not_looked") if one.after is None else t("found", **vars(one.after)),
        )
        for one in certificate.people
    ]
    beyond = [
        t(f"beyond_{one.what}", name=one.name, count=t("unknown") if one.count is None else one.count)
        for one in certificate.beyond
    ]
    return render_page(
        _PACKAGE,
        "certificate.html.jinja",
        style="page.css",
        language=t.code,
        t=t,
        certificate=certificate,
        day=_day(certificate.made, t),
        people=people,
        beyond=beyond,
        files=certificate.files[:_FILES],
        more=max(len(certificate.files) - _FILES, 0),
    )


def _day(moment: str, t: PageWords) -> str:
    at = datetime.fromisoformat(moment)
    return f"{t.day(int(at.timestamp() * 1_000_000))}, {at:%H:%M} UTC"
