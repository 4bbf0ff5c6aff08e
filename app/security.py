"""The protection of every view: allowed hosts, cookies, CSRF, headers, and the size and type of bodies."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any
from uuid import UUID

from flask import Flask, Request, Response, abort, current_app, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_wtf import FlaskForm
from flask_wtf.csrf import generate_csrf, validate_csrf
from itsdangerous import BadSignature, SignatureExpired, TimestampSigner, URLSafeTimedSerializer
from werkzeug.datastructures import CombinedMultiDict
from wtforms.csrf.core import CSRF, CSRFTokenField

from app.identifiers import new_uuid

BODY_LIMIT = 64 * 1024
"""Bytes of a request body. Longer ones get a 413."""

DRAIN_LIMIT = 2 * 1024 * 1024
"""Bytes of a body that no view has read and that are dropped before the response. If something is left, the server
closes the connection, although the response has said that it stays open."""

MOST_FIELDS = 200
"""Fields of a form. One with more gets a 413 before they are parsed."""

URLENCODED = "application/x-www-form-urlencoded"
FORM_TYPES = {URLENCODED, "multipart/form-data"}

WEBHOOKS = "/webhooks/"
"""Requests under this path are signed events, not forms."""

PRIVATE_PATHS = ("/basket", "/checkout", "/receipts", "/merchant")
"""Pages under these paths are about one person, so browsers and proxies must not store them."""

FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of static files. WhiteNoise serves them without calling Flask, so they do not get the headers of pages."""


class StrictTransport:
    """WSGI middleware: over TLS, tell browsers in every response that the shop is served over TLS only, for a year."""

    def __init__(self, application: Callable[..., Iterable[bytes]], subdomains: bool) -> None:
        self.application = application
        self.header = ("Strict-Transport-Security", "max-age=31536000" + ("; includeSubDomains" if subdomains else ""))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["wsgi.url_scheme"] != "https":
            return self.application(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, self.header], *more)

        return self.application(environ, start)


class AnyClockSigner(TimestampSigner):
    """Accepts a signature that was made by a host whose clock is ahead of ours.

    itsdangerous takes such a signature for an expired one, so that the browser would lose its basket and its payments.
    Refusing it protects nothing: only our own secret can have made it.
    """

    def unsign(self, signed_value: Any, max_age: Any = None, return_timestamp: Any = False) -> Any:
        """Return the value, and the time of the signature if wanted. Raises SignatureExpired only if it is too old."""
        try:
            return super().unsign(signed_value, max_age, return_timestamp)
        except SignatureExpired as error:
            if error.date_signed is None or error.date_signed <= self.timestamp_to_datetime(self.get_timestamp()):
                raise
            return self.unsign(signed_value, return_timestamp=return_timestamp)


SESSION_SECONDS = 90 * 86_400
"""Seconds after the last visit in which the cookie stays valid."""

RENEWED_AFTER = 86_400
"""Seconds after which a cookie is set anew, so that most pages set none."""


class Cookies(SecureCookieSessionInterface):
    """The session cookie. With TLS it is `Secure` and has the `__Host-` prefix, so that no other host can set it."""

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        serializer = super().get_signing_serializer(app)
        if serializer is not None:
            serializer.signer = AnyClockSigner
        return serializer

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession:
        """Return the session of a valid cookie, else an empty one. If the cookie is a day old, it is set anew."""
        serializer = self.get_signing_serializer(app)
        value = request.cookies.get(self.get_cookie_name(app))
        if serializer is None or not value:
            return self.session_class()
        try:
            content, signed_at = serializer.loads(value, max_age=SESSION_SECONDS, return_timestamp=True)
        except BadSignature:
            return self.session_class()
        session = self.session_class(content)
        session.modified = datetime.now(UTC) - signed_at > timedelta(seconds=RENEWED_AFTER)
        return session

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
    """The base of every form: its CSRF token stays valid when secrets are rotated, and it reads no uploaded files."""

    class Meta(FlaskForm.Meta):
        csrf_class = AnySecretCSRF

        def wrap_formdata(self, form: FlaskForm, formdata: Any) -> Any:
            """Return the request's fields. Flask-WTF puts files among them, which are no texts."""
            found = super().wrap_formdata(form, formdata)
            return request.form if isinstance(found, CombinedMultiDict) else found

    @property
    def forged(self) -> bool:
        """Return whether the CSRF token was missing, invalid or another browser's. Call it after `validate`."""
        return bool(self.csrf_token.errors)


def buyer_id() -> UUID:
    """Return this browser's random id. If it has none, make one and set the cookie, with the time and nothing else."""
    try:
        return UUID(session["buyer"])
    except (KeyError, ValueError):
        new_id = new_uuid()
        session["buyer"], session["since"] = new_id.hex, int(time())
        session.permanent = True
        return new_id


def buyer_since() -> int:
    """Return when this browser got its id, in seconds since 1970. Cookies of earlier versions do not say: 0."""
    return int(session.get("since", 0))


def known_buyer_id() -> UUID | None:
    """Return this browser's random id, or None if it has none yet."""
    return buyer_id() if "buyer" in session else None


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


def init_app(app: Flask, form_targets: Iterable[str]) -> None:
    """Add all of this module's protection to the app. `form_targets` is as in `content_security_policy`."""
    app.session_interface = Cookies()
    app.config.update(
        MAX_CONTENT_LENGTH=BODY_LIMIT, MAX_FORM_PARTS=MOST_FIELDS,
        SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True, SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=SESSION_SECONDS, WTF_CSRF_TIME_LIMIT=None,
    )  # fmt: skip
    policy = content_security_policy(form_targets)

    @app.before_request
    def _refuse_other_bodies() -> None:
        if "\x00" in request.path:
            abort(404)  # PostgreSQL accepts no NUL character in a text.
        checked = request.routing_exception is None and not request.path.startswith(WEBHOOKS)
        if checked and request.method == "POST":
            if not _is_form():
                abort(415)
            if request.mimetype == URLENCODED and request.get_data().count(b"&") >= MOST_FIELDS:
                abort(413)

    @app.after_request
    def _drain(response: Response) -> Response:
        # Some servers do not end the input where the body ends; reading there would wait for the next request.
        left = DRAIN_LIMIT if request.environ.get("wsgi.input_terminated") else 0
        with suppress(OSError):
            while left > 0 and (part := request.environ["wsgi.input"].read(min(left, BODY_LIMIT))):
                left -= len(part)
        return response

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        if request.path.startswith(PRIVATE_PATHS):
            response.headers["Cache-Control"] = "no-store"
        return response
