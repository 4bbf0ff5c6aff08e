"""One page per kind of error. Each page says first what happened to the money, then what to do."""

from typing import NamedTuple

import structlog
from flask import Flask, make_response, render_template
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.wrappers import Response

from app import logs
from app.charges.protocol import ClaimUnknown
from app.database import Unreachable
from app.hosts import log_refusal
from app.logs import Seldom

log = structlog.get_logger()


class ErrorText(NamedTuple):
    """The heading and the paragraphs of an error page."""

    heading: str
    message: list[str]


NOT_CHARGED = "This try took no money."
"""It is about the request that was refused. Another copy of the same form may have been paid."""

PAID_BEFORE = "If you have pressed Pay before, see your payments and your e-mail first, before you pay again."

REFUSALS = {
    # Its key can't be read, so it is not known whether another copy of this form was paid.
    "bad_token": ErrorText(
        "We can't read this payment form",
        [NOT_CHARGED, "It was cut short, is too old, or is not from this shop.", PAID_BEFORE],
    ),
    "foreign_token": ErrorText(
        "This payment form belongs to another browser",
        [
            NOT_CHARGED,
            "It was made for a basket that this browser does not have, for example because its cookies were cleared or "
            "because it was forgotten on purpose.",
            PAID_BEFORE,
        ],
    ),
    "receipt_unknown": ErrorText(
        "We have no payment at this address",
        ["Check that the address is complete. If it is, ask us before you pay again."],
    ),
    "order_lost": ErrorText(
        "We have no record of this order",
        [
            "Do not pay again before you have asked us. This form was made by this shop, but its order is missing "
            "here, and you may have paid for it already.",
            "Tell us this reference: {reference}",
        ],
    ),
    "closed": ErrorText(
        "The shop takes no payments at the moment",
        [
            "This try took no money. Please come back later: your basket shows what you can order then.",
            "If you have paid for this order before, do not pay again, and tell us this reference: {reference}",
        ],
    ),
    "order_cleared": ErrorText(
        "This basket was cleared after 30 days",
        [
            f"{NOT_CHARGED} Baskets that nobody has used or paid for in that time are cleared.",
            "If you did pay for it, tell us this reference: {reference}",
        ],
    ),
}

BY_STATUS = {
    400: ErrorText("The request could not be understood", [NOT_CHARGED, "Go back, reload the page and try again."]),
    403: ErrorText("That is not yours to open", [NOT_CHARGED]),
    404: ErrorText(
        "This page does not exist", ["If you typed the address, check it. If you followed a link, it may be old."]
    ),
    405: ErrorText("This page can't be used that way", [NOT_CHARGED]),
    413: ErrorText("That was too much to read", [NOT_CHARGED, "No form of this shop is that long."]),
    415: ErrorText("That was not a form", [NOT_CHARGED]),
    429: ErrorText("Too many tries", [NOT_CHARGED, "Wait ten minutes, then try again."]),
    500: ErrorText(
        "The shop made a mistake",
        ["If you were paying, see your payments before you try again: what was charged, if anything, is there."],
    ),
    503: ErrorText(
        "The shop can't reach its records right now",
        [
            f"{NOT_CHARGED} The bank is only asked after the order has been recorded.",
            "If you pressed Pay more than once, see your payments before you try again. Nothing is charged twice.",
        ],
    ),
}

CLAIM_UNKNOWN = ErrorText(
    "Please wait before you pay again",
    [
        "The connection to our records broke. The bank was not asked, so this try took no money.",
        "See your payments in a minute. If this order is there, wait until it says how the payment ended.",
    ],
)

RECEIPT_UNREADABLE = ErrorText(
    "We can't look up this payment right now",
    ["Do not pay again. This page tries again by itself, and this link will tell how the payment ended."],
)

PAYMENTS_UNREADABLE = ErrorText(
    "We can't look up your payments right now",
    ["Do not pay again before you have seen them here. Please try again in a minute."],
)

UNKNOWN_HOST = f"This shop does not answer to that host name. {NOT_CHARGED}\n"


def refusal_page(kind: str, status: int, reference: str = "") -> tuple[str, int]:
    """Return the page for a form that was refused. `reference` is what the shopper can quote."""
    text = REFUSALS[kind]
    logs.note_refusal(kind)
    return _page(text._replace(message=[line.format(reference=reference) for line in text.message])), status


def unavailable(text: ErrorText, refresh: int | None = None) -> Response:
    """Return a 503 page. It reloads itself after `refresh` seconds, if given."""
    response = make_response(_page(text, refresh), 503)
    response.headers["Retry-After"] = "5"
    return response


def log_unreachable(error: Unreachable) -> None:
    """Log that the database did not let this request do its work."""
    logs.note_refusal("database_unreachable")
    log.error("database_unreachable", error=str(error))


def _page(text: ErrorText, refresh: int | None = None) -> str:
    return render_template("errors/error.html", heading=text.heading, message=text.message, refresh=refresh)


def init_app(app: Flask) -> None:
    """Register a page for every error that a request can end with."""
    may_log_host = Seldom()  # Scanners try many names.

    @app.errorhandler(SecurityError)
    def _unknown_host(_error: SecurityError) -> Response:
        if may_log_host():
            log_refusal()
        # Plain text, because the links of a page would contain the host name that was just refused.
        return make_response(UNKNOWN_HOST, 400, {"Content-Type": "text/plain; charset=utf-8"})

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 500
        if status < 400:
            return error.get_response()
        response = make_response(_page(BY_STATUS.get(status, BY_STATUS[400 if status < 500 else 500])), status)
        if allowed := getattr(error, "valid_methods", None):
            response.headers["Allow"] = ", ".join(allowed)
        return response

    @app.errorhandler(ClaimUnknown)
    def _claim_unknown(_error: ClaimUnknown) -> Response:
        return unavailable(CLAIM_UNKNOWN)

    @app.errorhandler(Unreachable)
    def _database_unreachable(error: Unreachable) -> Response:
        log_unreachable(error)
        return unavailable(BY_STATUS[503])
