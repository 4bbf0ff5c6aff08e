"""The sandbox bank: a separate application with its own database, HTTP API and confirmation page for shoppers."""

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, jsonify, request
from flask.sessions import SessionInterface, SessionMixin
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, NotFound, SecurityError
from werkzeug.wrappers import Response as AnyResponse

from sandbox_bank.api import api
from sandbox_bank.pages import page_not_found, page_refused, page_unavailable, pages
from sandbox_bank.requests import LOOPBACK
from sandbox_bank.storage import open_storage


class NoSession(SessionInterface):
    """A session interface that sets no cookie, because cookies ignore ports: the shop would receive it as well."""

    def open_session(self, app: Flask, request: object) -> None:
        """Return None: there is no session."""

    def save_session(self, app: Flask, session: SessionMixin, response: AnyResponse) -> None:
        """Save nothing."""


def create_bank(
    database_url: str, *, hosts: Iterable[str] = (), return_hosts: Mapping[str, Collection[str]] | None = None,
    slow_seconds: float = 5, hold_seconds: float = 60,
) -> Flask:  # fmt: skip
    """Return the bank's application for the database at `database_url`. Create missing tables.

    It answers only to the host names `hosts` and to loopback names, so that a page of a foreign site can't reach it
    through a name that leads to this machine. `return_hosts` are the host names, by account, that its confirmation page
    may lead shoppers back to, besides loopback names. `slow_seconds` is how long the slow card takes. `hold_seconds` is
    how long a card that never answers keeps its connection open at most.

    Raises ValueError, OSError or SQLAlchemyError if the database can't be opened.
    """
    bank = Flask(__name__)
    bank.session_interface = NoSession()
    bank.config.update(
        BOOKS=open_storage(database_url),
        ACCOUNTS=set(),
        HOSTS={*hosts, *LOOPBACK},
        RETURN_HOSTS=return_hosts or {},
        SLOW_SECONDS=slow_seconds,
        HOLD_SECONDS=hold_seconds,
        MAX_CONTENT_LENGTH=64 * 1024,
    )
    bank.before_request(_refuse_other_hosts)
    bank.register_blueprint(api)
    bank.register_blueprint(pages)
    bank.register_error_handler(HTTPException, _http_error)
    bank.register_error_handler(SQLAlchemyError, _storage_error)
    bank.after_request(_headers)
    return bank


def _refuse_other_hosts() -> None:
    """Raise SecurityError for a host name that is not the bank's. Flask's own TRUSTED_HOSTS knows no IPv6 addresses."""
    if urlsplit(f"//{request.host}").hostname not in current_app.config["HOSTS"]:
        raise SecurityError


def _is_for_machines() -> bool:
    return request.path.startswith("/v1/") or request.path == "/healthz"


def _http_error(error: HTTPException) -> AnyResponse | tuple[Response | str, int]:
    code = error.code or 500
    if _is_for_machines():
        return jsonify(error=error.name.lower().replace(" ", "_"), message=error.description), code
    if isinstance(error, SecurityError):  # Flask can't make a page's links for an invalid host name.
        return Response("The bank does not answer to that host name.\n", code, mimetype="text/plain")
    if code >= 500:
        return page_unavailable(code)
    return page_not_found(error) if isinstance(error, NotFound) else page_refused(error)


def _storage_error(error: SQLAlchemyError) -> tuple[Response | str, int]:
    if _is_for_machines():
        return jsonify(error="unavailable", message="The bank can't reach its database."), 503
    return page_unavailable(503)


def _headers(response: Response) -> Response:
    """Set security headers. `form-action` must include the shop: browsers apply it to the redirect after the form."""
    targets = " ".join(["'self'", *filter(None, [g.get("form_origin")])])
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action {targets}"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    # With no-referrer, a browser would send the confirmation with "Origin: null".
    response.headers["Referrer-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
