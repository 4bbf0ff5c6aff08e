"""The protection of every view: allowed hosts, trusted proxies, cookies, CSRF, headers, and limits on card testing."""

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
"""Bytes of a request body. Longer ones get a 413."""

DRAIN_LIMIT = 2 * 1024 * 1024
"""Bytes of an oversized body that are read and dropped. If the connection were closed while the client is still
sending, it might never read the 413."""

FORM_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data"}

WEBHOOKS = "/webhooks/"
"""Requests under this path are signed events, not forms."""

LOOPBACK = ("127.0.0.1", "localhost")
"""Host names that are always allowed, for health checks from the same machine."""

PRIVATE_PATHS = ("/basket", "/checkout", "/receipts", "/merchant")
"""Pages under these paths are about one person, so browsers and proxies must not store them."""

FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of static files. WhiteNoise serves them without calling Flask, so they do not get the headers of pages."""

DECLINES_PER_BUYER = parse("10 per 10 minutes")
DECLINES_PER_ADDRESS = parse("100 per 10 minutes")
"""Higher than the limit per buyer, because offices and mobile networks share one address. Card testing needs thousands
of tries."""

LIMITER_STORAGES = ("memory", "redis", "rediss", "redis+unix")
REDIS_TIMEOUT = 0.5
"""Seconds in which Redis must accept a connection, and then respond. Longer waits would delay every checkout."""


class TooManyDeclines(Exception):
    """Too many cards from this browser or address were declined, which is a sign of card testing."""


class Cookies(SecureCookieSessionInterface):
    """The session cookie. With TLS it is `Secure` and has the `__Host-` prefix, so that no other host can set it."""

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-payonce" if request.is_secure else "payonce"

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


class LazyCSRFTokenField(CSRFTokenField):
    """Makes the CSRF token only if the form is rendered. Most forms that arrive are not shown again."""

    def _value(self) -> str:
        return str(generate_csrf())


class AnySecretCSRF(CSRF):
    """Flask-WTF's CSRF tokens, accepted if any of the secrets signed them.

    Flask-WTF's own check knows only the newest secret, so it would refuse open forms after a rotation.
    """

    field_class = LazyCSRFTokenField

    def generate_csrf_token(self, csrf_token_field: Any) -> str:
        return ""

    def validate_csrf_token(self, form: Any, field: Any) -> None:
        check_csrf(field.data)


def check_csrf(token: str | None) -> None:
    """Raise WTForms' ValidationError unless one of our secrets signed this token for this browser's session."""
    # itsdangerous expects the newest secret last.
    validate_csrf(token, secret_key=[*current_app.config["SECRET_KEY_FALLBACKS"], current_app.secret_key])


class Form(FlaskForm):
    """The base of every form: its CSRF token stays valid when secrets are rotated."""

    class Meta(FlaskForm.Meta):
        csrf_class = AnySecretCSRF

    @property
    def forged(self) -> bool:
        """Return whether the CSRF token was missing, invalid or another browser's. Call it after `validate`."""
        return bool(self.csrf_token.errors)


def buyer_id() -> UUID:
    """Return this browser's random id. If it has none, make one and set the cookie, which holds nothing else."""
    try:
        return UUID(session["buyer"])
    except (KeyError, ValueError):
        new_id = uuid4()
        session["buyer"] = new_id.hex
        session.permanent = True
        return new_id


def known_buyer_id() -> UUID | None:
    """Return this browser's random id, or None if it has none yet."""
    return buyer_id() if "buyer" in session else None


def check_declines() -> None:
    """Raise TooManyDeclines if a limit is reached. Only declines count, so shoppers who pay never reach one."""
    if not all(_allows(current.limiter().test, rate, identifier) for rate, identifier in _decline_limits()):
        raise TooManyDeclines


def count_decline() -> None:
    """Count one declined card for this browser and for its address."""
    for rate, identifier in _decline_limits():
        _allows(current.limiter().hit, rate, identifier)


def _allows(test_or_hit: Callable[..., bool], rate: RateLimitItem, identifier: str) -> bool:
    """Return whether the limiter allows the request. If its storage fails, allow it: the shop must continue to sell.

    After a failure, the same request does not use the storage again. So a storage that does not respond delays a
    request by one time-out at most.
    """
    if g.get("limiter_failed"):
        return True
    try:
        return test_or_hit(rate, "declines", identifier)
    except StorageError as error:
        g.limiter_failed = True
        log.warning("limiter_failed", error=type(error.storage_error).__name__)
        return True


def _decline_limits() -> list[tuple[RateLimitItem, str]]:
    """Return each limit with the browser or address whose declines it counts."""
    return [(DECLINES_PER_BUYER, buyer_id().hex), (DECLINES_PER_ADDRESS, str(request.remote_addr))]


def make_limiter(storage_url: str) -> RateLimiter:
    """Return the counter behind the rate limits. It connects to its storage when it is first used.

    Raises SettingsError if the storage is unknown or its client is not installed. The message never contains the
    URL, because a URL may contain a password.
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
        raise SettingsError("LIMITS_STORAGE_URL is not a valid URL, or has an unknown option") from None


def _redis(url: str) -> Any:
    """Return the storage. Raises TypeError or ValueError if the URL or one of its options is invalid."""
    options = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT}
    storage: Any = storage_from_string(url, wrap_exceptions=True, **options)
    pool = storage.storage.connection_pool
    # This checks the options now. Otherwise a wrong one would fail in every checkout.
    pool.connection_class(**pool.connection_kwargs)
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
        """Return the last address that is not a trusted proxy. A client can forge everything to the left of it."""
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
    """Return a policy that allows only our own content.

    `form_targets` are origins that a form's POST may be redirected to: browsers check the redirect as well.
    """
    targets = " ".join(["'self'", *form_targets])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    )


def _is_form() -> bool:
    """Return whether the body is a form, or empty."""
    empty = not request.mimetype and not request.content_length
    return empty or request.mimetype in FORM_TYPES


def init_app(app: Flask, hosts: Iterable[str], proxies: Iterable[str], form_targets: Iterable[str]) -> None:
    """Add all of this module's protection to the app. `form_targets` is as in `content_security_policy`."""
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
            abort(404)  # PostgreSQL accepts no NUL character in a text.
        checked = request.routing_exception is None and not request.path.startswith(WEBHOOKS)
        if checked and request.method == "POST" and not _is_form():
            abort(415)

    @app.after_request
    def _drain(response: Response) -> Response:
        left = DRAIN_LIMIT if response.status_code == 413 else 0
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
        if request.path.startswith(PRIVATE_PATHS):
            response.headers["Cache-Control"] = "no-store"
        return response
