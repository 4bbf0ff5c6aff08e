"""Format money and dates for the reader's locale. The pages themselves are in English for now."""

from datetime import UTC, datetime, timedelta

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime, format_timedelta
from flask import Flask, Response, g, has_request_context, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from app.money import format_money

LANGUAGE = "en"

MOST_LANGUAGES = 10
"""Languages of Accept-Language that are looked at. Browsers send fewer; each unknown one costs several searches for
files."""

LONGEST_TAG = 35
"""Characters of a language tag that can name a locale."""


def locale() -> str:
    """Return the first locale of Accept-Language that CLDR knows, such as "de_DE"; "en" if there is none."""
    if not has_request_context():
        return LANGUAGE
    if "locale" not in g:
        wanted = ",".join(request.headers.get("Accept-Language", "").split(",", MOST_LANGUAGES)[:MOST_LANGUAGES])
        languages = parse_accept_header(wanted, LanguageAccept)
        g.locale = next(filter(None, map(_known, languages.values())), LANGUAGE)
    return str(g.locale)


def _known(tag: str) -> str | None:
    if len(tag) > LONGEST_TAG:
        return None
    try:
        return str(Locale.parse(tag, sep="-"))
    except (UnknownLocaleError, ValueError, TypeError):
        return None


def init_app(app: Flask) -> None:
    """Add the template filters `money`, `when` and `ago` and the globals `lang` and `reader_lang`.

    `lang` is the language of the pages, `reader_lang()` that of money and dates.
    """
    app.jinja_env.filters["money"] = lambda amount, currency: format_money(amount, currency, locale())
    app.jinja_env.filters["when"] = _when
    app.jinja_env.filters["ago"] = _ago
    app.jinja_env.globals["lang"] = LANGUAGE
    app.jinja_env.globals["reader_lang"] = lambda: locale().replace("_", "-")

    @app.after_request
    def _vary(response: Response) -> Response:
        if "locale" in g:
            response.vary.add("Accept-Language")
        return response


def _when(moment: datetime) -> str:
    """Return the time in UTC and name the zone, because no header contains the reader's time zone."""
    return format_datetime(moment, "d MMMM y, HH:mm 'UTC'" if locale().startswith("en") else "long", locale=locale())


def _ago(moment: datetime) -> str:
    """Return how long ago that was, such as "20 hours ago". A time in the future (another clock) is one second ago."""
    passed = max(datetime.now(UTC) - moment, timedelta(seconds=1))
    return format_timedelta(-passed, add_direction=True, locale=locale())
