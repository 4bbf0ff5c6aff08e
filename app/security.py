"""What stands before every door: hosts, proxies, cookies, CSRF, headers, and limits against card testing."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID, uuid4

from flask import Flask, Response, abort, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_wtf import FlaskForm
from flask_wtf.csrf import generate_csrf, validate_csrf
from limits import RateLimitItem, parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter
from wtforms.csrf.core import CSRF, CSRFTokenField

BODY_LIMIT = 64 * 1024
HEARD_OUT = 2 * 1024 * 1024
"""Bytes of a body that is too large which are read and thrown away: who is still sending when the connection closes
may never see the answer."""
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
SIGNED = "/webhooks/"
"""What is posted there is no form: whoever may speak there signs what they say."""
LOOPBACK = ("127.0.0.1", "localhost")
"""Host names that are always answered to: health checks come from the machine itself."""

PRIVATE = ("/basket", "/checkout", "/receipts", "/merchant")

FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""For static files, which never come by the pages' own headers."""

DECLINES_PER_BUYER = parse("10 per 10 minutes")
DECLINES_PER_ADDRESS = parse("100 per 10 minutes")
"""Many shoppers share an address (offices, mobile networks); who tests stolen cards needs thousands of tries."""


class TooManyDeclines(Exception):
    """This browser or address had too many cards declined: a sign of card testing."""


class Cookies(SecureCookieSessionInterface):
    """Under TLS the cookie is `Secure` and bears the `__Host-` prefix, so that no other host can plant one."""

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-payonce" if request.is_secure else "payonce"

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


class SignedWhenShown(CSRFTokenField):
    """A form that only arrives needs no new CSRF token."""

    def _value(self) -> str:
        return str(generate_csrf())


class AnySecretCSRF(CSRF):
    """Flask-WTF's CSRF tokens, accepted under every secret: its own check would break open forms at a rotation."""

    field_class = SignedWhenShown

    def generate_csrf_token(self, csrf_token_field: Any) -> str:
        return ""

    def validate_csrf_token(self, form: Any, field: Any) -> None:
        check_csrf(field.data)


def check_csrf(token: str | None) -> None:
    """Raises wtforms' ValidationError unless the token was made for this browser's session, by any of our secrets."""
    # itsdangerous, below, takes the last one for the newest.
    validate_csrf(token, secret_key=[*current_app.config["SECRET_KEY_FALLBACKS"], current_app.secret_key])


class Form(FlaskForm):
    """Every form of ours: with a CSRF token that survives a rotation of secrets."""

    class Meta(FlaskForm.Meta):
        csrf_class = AnySecretCSRF

    @property
    def forged(self) -> bool:
        """After validation: whether the CSRF token was missing or not this browser's."""
        return bool(self.csrf_token.errors)


def buyer() -> UUID:
    """This browser's random id, made when it first sees a form; the cookie holds nothing else of the shopper."""
    try:
        return UUID(session["buyer"])
    except (KeyError, ValueError):
        made = uuid4()
        session["buyer"] = made.hex
        session.permanent = True
        return made


def known_buyer() -> UUID | None:
    """This browser's random id if it has one."""
    return buyer() if "buyer" in session else None


def check_declines() -> None:
    """Raises TooManyDeclines. Only declines count, so neither twins nor paying shoppers ever come near it."""
    if not all(_limits().test(rate, "declines", who) for rate, who in _declining()):
        raise TooManyDeclines


def count_decline() -> None:
    for rate, who in _declining():
        _limits().hit(rate, "declines", who)


def _declining() -> list[tuple[RateLimitItem, str]]:
    """Whose declines are counted, and how many are too many."""
    return [(DECLINES_PER_BUYER, buyer().hex), (DECLINES_PER_ADDRESS, str(request.remote_addr))]


def _limits() -> FixedWindowRateLimiter:
    limits: FixedWindowRateLimiter = current_app.extensions["limits"]
    return limits


class TrustedProxies:
    """WSGI middleware: X-Forwarded-For and -Proto count only as far as trusted proxies vouch for them."""

    def __init__(self, application: Callable[..., Iterable[bytes]], networks: Iterable[str]) -> None:
        self.application = application
        self.networks = [ip_network(network) for network in networks]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._trusts(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = self._client(environ)
            if environ.get("HTTP_X_FORWARDED_PROTO") in {"http", "https"}:
                environ["wsgi.url_scheme"] = environ["HTTP_X_FORWARDED_PROTO"]
        return self.application(environ, start_response)

    def _client(self, environ: dict[str, Any]) -> str:
        """The nearest address that no proxy of ours stands behind: whatever is left of it, anybody may have written."""
        hops = [hop.strip() for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
        for hop in reversed(hops):
            if not self._trusts(hop):
                return hop
        return str(environ["REMOTE_ADDR"])

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


def content_security_policy(form_targets: Iterable[str]) -> str:
    """Nothing but our own; forms may lead on to the gateway's page (browsers check the redirect after a POST too)."""
    targets = " ".join(["'self'", *form_targets])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    )


def _is_form() -> bool:
    """Everything that is posted here is a form, but for what is signed."""
    empty = not request.mimetype and not request.content_length
    return empty or request.mimetype in FORMS


def init_app(
    app: Flask, hosts: Iterable[str], proxies: Iterable[str], form_targets: Iterable[str], limits: str
) -> None:
    """Put all of it before the app's doors."""
    app.session_interface = Cookies()
    app.config.update(
        MAX_CONTENT_LENGTH=BODY_LIMIT, SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True,
        SESSION_REFRESH_EACH_REQUEST=False, PERMANENT_SESSION_LIFETIME=365 * 86_400,
        WTF_CSRF_TIME_LIMIT=None, TRUSTED_HOSTS=[*hosts, *LOOPBACK],
    )  # fmt: skip
    app.wsgi_app = TrustedProxies(app.wsgi_app, proxies)  # type: ignore[method-assign]
    app.extensions["limits"] = FixedWindowRateLimiter(storage_from_string(limits))
    policy = content_security_policy(form_targets)

    @app.before_request
    def _refuse_what_is_no_form() -> None:
        if "\x00" in request.path:
            abort(404)  # No storage can be asked for it.
        checked = request.routing_exception is None and not request.path.startswith(SIGNED)
        if checked and request.method == "POST" and not _is_form():
            abort(415)

    @app.after_request
    def _hear_out(response: Response) -> Response:
        left = HEARD_OUT if response.status_code == 413 else 0
        while left > 0 and (part := request.environ["wsgi.input"].read(min(left, BODY_LIMIT))):
            left -= len(part)
        return response

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        if request.path.startswith(PRIVATE):
            response.headers["Cache-Control"] = "no-store"
        return response
