"""What protects every view: allowed hosts, trusted proxies, cookies, CSRF, headers, and limits against card testing."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID, uuid4

import structlog
from flask import Flask, Response, abort, current_app, g, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_wtf import FlaskForm
from flask_wtf.csrf import generate_csrf, validate_csrf
from limits import RateLimitItem, parse
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, RateLimiter
from wtforms.csrf.core import CSRF, CSRFTokenField

from app import current
from app.settings import SettingsError

log = structlog.get_logger()

BODY_LIMIT = 64 * 1024
DRAINED = 2 * 1024 * 1024
"""Bytes of an oversized body that are read and dropped. A client that still sends when the connection is closed may
never see the 413."""
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
SIGNED = "/webhooks/"
"""Requests under this path are signed events, not forms."""
LOOPBACK = ("127.0.0.1", "localhost")
"""Host names that are always allowed, for health checks from the same machine."""

PRIVATE = ("/basket", "/checkout", "/receipts", "/merchant")

FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of static files, which WhiteNoise serves before Flask adds the pages' headers."""

DECLINES_PER_BUYER = parse("10 per 10 minutes")
DECLINES_PER_ADDRESS = parse("100 per 10 minutes")
"""Many shoppers share an address (offices, mobile networks), while card testing needs thousands of tries."""

LIMITER_STORAGES = ("memory", "redis", "rediss", "redis+unix")
REDIS_TIMEOUT = 0.5
"""Seconds in which Redis must accept a connection, and then answer. Longer waits would delay every checkout."""


class TooManyDeclines(Exception):
    """Too many cards of this browser or address were declined, which is a sign of card testing."""


class Cookies(SecureCookieSessionInterface):
    """With TLS the cookie is `Secure` and has the `__Host-` prefix, so that no other host can set it."""

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-payonce" if request.is_secure else "payonce"

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


class SignedWhenShown(CSRFTokenField):
    """Makes the CSRF token only when the form is rendered. A form that was just sent needs no new one."""

    def _value(self) -> str:
        return str(generate_csrf())


class AnySecretCSRF(CSRF):
    """Flask-WTF's CSRF tokens, accepted with every secret. Its own check would refuse open forms after a rotation."""

    field_class = SignedWhenShown

    def generate_csrf_token(self, csrf_token_field: Any) -> str:
        return ""

    def validate_csrf_token(self, form: Any, field: Any) -> None:
        check_csrf(field.data)


def check_csrf(token: str | None) -> None:
    """Raise wtforms' ValidationError if the token was not made for this browser's session with one of our secrets."""
    # itsdangerous expects the newest secret last.
    validate_csrf(token, secret_key=[*current_app.config["SECRET_KEY_FALLBACKS"], current_app.secret_key])


class Form(FlaskForm):
    """The base of every form: its CSRF token stays valid when secrets are rotated."""

    class Meta(FlaskForm.Meta):
        csrf_class = AnySecretCSRF

    @property
    def forged(self) -> bool:
        """Return, after validation, whether the CSRF token was missing or not this browser's."""
        return bool(self.csrf_token.errors)


def buyer_id() -> UUID:
    """Return this browser's random id; make one if it has none. The cookie holds nothing else about the shopper."""
    try:
        return UUID(session["buyer"])
    except (KeyError, ValueError):
        made = uuid4()
        session["buyer"] = made.hex
        session.permanent = True
        return made


def known_buyer_id() -> UUID | None:
    """Return this browser's random id, or None."""
    return buyer_id() if "buyer" in session else None


def check_declines() -> None:
    """Raise TooManyDeclines if the limit is reached. Only declines count, so paying shoppers never reach it."""
    if not all(_limited(current.limiter().test, rate, who) for rate, who in _decline_limits()):
        raise TooManyDeclines


def count_decline() -> None:
    """Count a declined card of this browser and address."""
    for rate, who in _decline_limits():
        _limited(current.limiter().hit, rate, who)


def _limited(question: Callable[..., bool], rate: RateLimitItem, who: str) -> bool:
    """Ask the limiter. If its storage is away, allow the request: a shop without limits is better than none.

    The storage is not asked again within the same request, so that a silent one delays a request by one time-out.
    """
    if g.get("limiter_failed"):
        return True
    try:
        return question(rate, "declines", who)
    except StorageError as error:
        g.limiter_failed = True
        log.warning("limiter_failed", error=type(error.storage_error).__name__)
        return True


def _decline_limits() -> list[tuple[RateLimitItem, str]]:
    """Return each limit and the browser or address that it counts."""
    return [(DECLINES_PER_BUYER, buyer_id().hex), (DECLINES_PER_ADDRESS, str(request.remote_addr))]


def make_limiter(storage_url: str) -> RateLimiter:
    """Return the counter behind the rate limits. It connects to its storage at the first question.

    Raises SettingsError if the storage is unknown or not installed. The message never holds the address, which may
    contain a password.
    """
    scheme = storage_url.partition(":")[0]
    if scheme not in LIMITER_STORAGES:
        known = ", ".join(f"{name}://" for name in LIMITER_STORAGES)
        raise SettingsError(f"LIMITS_STORAGE_URL must begin with one of {known}")
    try:
        storage = _redis(storage_url) if scheme.startswith("redis") else storage_from_string(storage_url)
        return FixedWindowRateLimiter(storage)
    except ConfigurationError as error:
        raise SettingsError(f"LIMITS_STORAGE_URL can't be used: {error}") from None
    except (TypeError, ValueError):
        raise SettingsError("LIMITS_STORAGE_URL is no valid address, or has an unknown option") from None


def _redis(url: str) -> Any:
    """Return the storage. Raises TypeError or ValueError if the address or one of its options is invalid."""
    options = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT}
    storage: Any = storage_from_string(url, wrap_exceptions=True, **options)
    pool = storage.storage.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # Checks the options; a wrong one would fail in every checkout.
    return storage


class TrustedProxies:
    """WSGI middleware: accept X-Forwarded-For and X-Forwarded-Proto only from trusted proxies."""

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
        """Return the last address that is not a trusted proxy. Anything to the left of it can be forged."""
        hops = [hop.strip() for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
        for hop in reversed(hops):
            if not self._trusts(hop):
                return str(hop)
        return str(environ["REMOTE_ADDR"])

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


def content_security_policy(form_targets: Iterable[str]) -> str:
    """Allow only our own content. Forms may redirect to the gateway's page; browsers check redirects of a POST too."""
    targets = " ".join(["'self'", *form_targets])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    )


def _is_form() -> bool:
    """Return whether the body is a form, or empty."""
    empty = not request.mimetype and not request.content_length
    return empty or request.mimetype in FORMS


def init_app(app: Flask, hosts: Iterable[str], proxies: Iterable[str], form_targets: Iterable[str]) -> None:
    """Add all of it to the app. `form_targets` are origins that forms may redirect to."""
    app.session_interface = Cookies()
    app.config.update(
        MAX_CONTENT_LENGTH=BODY_LIMIT, SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True,
        SESSION_REFRESH_EACH_REQUEST=False, PERMANENT_SESSION_LIFETIME=365 * 86_400,
        WTF_CSRF_TIME_LIMIT=None, TRUSTED_HOSTS=[*hosts, *LOOPBACK],
    )  # fmt: skip
    app.wsgi_app = TrustedProxies(app.wsgi_app, proxies)  # type: ignore[method-assign]
    policy = content_security_policy(form_targets)

    @app.before_request
    def _refuse_other_bodies() -> None:
        if "\x00" in request.path:
            abort(404)  # PostgreSQL accepts no NUL in a text.
        checked = request.routing_exception is None and not request.path.startswith(SIGNED)
        if checked and request.method == "POST" and not _is_form():
            abort(415)

    @app.after_request
    def _drain(response: Response) -> Response:
        left = DRAINED if response.status_code == 413 else 0
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
