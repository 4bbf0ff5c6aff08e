"""Money, dates and numbers in the form of the reader's locale; the pages themselves are in English for now."""

from datetime import datetime

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime
from flask import Flask, Response, g, has_request_context, request

from app.money import format_money

LANGUAGE = "en"


def locale() -> str:
    """The first locale of Accept-Language that CLDR knows, such as "de_DE"; "en" for want of one."""
    if not has_request_context():
        return LANGUAGE
    if "locale" not in g:
        g.locale = next(filter(None, map(_known, request.accept_languages.values())), LANGUAGE)
    return str(g.locale)


def _known(tag: str) -> str | None:
    try:
        return str(Locale.parse(tag, sep="-"))
    except (UnknownLocaleError, ValueError, TypeError):
        return None


def init_app(app: Flask) -> None:
    """The filters `money` and `when`; `lang` of the pages, and `reader_lang()` of what is in the reader's form."""
    app.jinja_env.filters["money"] = lambda amount, currency: format_money(amount, currency, locale())
    app.jinja_env.filters["when"] = _when
    app.jinja_env.globals["lang"] = LANGUAGE
    app.jinja_env.globals["reader_lang"] = lambda: locale().replace("_", "-")

    @app.after_request
    def _vary(answer: Response) -> Response:
        if "locale" in g:
            answer.vary.add("Accept-Language")
        return answer


def _when(moment: datetime) -> str:
    """A time with its zone: UTC, for no cookie or header says where the reader is."""
    return format_datetime(moment, "d MMMM y, HH:mm 'UTC'" if locale().startswith("en") else "long", locale=locale())
