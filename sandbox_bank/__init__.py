"""The sandbox bank: a separate application with its own database, HTTP API and confirmation page for shoppers."""

from flask import Flask, Response, g, jsonify, request
from flask.sessions import SessionInterface, SessionMixin
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response as AnyResponse

from sandbox_bank.api import api
from sandbox_bank.pages import page_not_found, page_refused, page_unavailable, pages
from sandbox_bank.storage import open_storage


class NoSession(SessionInterface):
    """A session interface that sets no cookie, because cookies ignore ports: the shop would receive it as well."""

    def open_session(self, app: Flask, request: object) -> None:
        """Return None: there is no session."""

    def save_session(self, app: Flask, session: SessionMixin, response: AnyResponse) -> None:
        """Save nothing."""


def create_bank(database_url: str, *, slow_seconds: float = 5, hold_seconds: float = 60) -> Flask:
    """Return the bank's application for the database at `database_url`. Create missing tables.

    `slow_seconds` is how long the slow card takes. `hold_seconds` is how long a card that never answers keeps its
    connection open at most. Raises ValueError, OSError or SQLAlchemyError if the database can't be opened.
    """
    bank = Flask(__name__)
    bank.session_interface = NoSession()
    bank.config.update(
        BOOKS=open_storage(database_url),
        SLOW_SECONDS=slow_seconds,
        HOLD_SECONDS=hold_seconds,
        MAX_CONTENT_LENGTH=64 * 1024,
    )
    bank.register_blueprint(api)
    bank.register_blueprint(pages)
    bank.register_error_handler(HTTPException, _http_error)
    bank.register_error_handler(SQLAlchemyError, _storage_error)
    bank.after_request(_headers)
    return bank


def _is_for_machines() -> bool:
    return request.path.startswith("/v1/") or request.path == "/healthz"


def _http_error(error: HTTPException) -> AnyResponse | tuple[Response | str, int]:
    code = error.code or 500
    if _is_for_machines():
        return jsonify(error=error.name.lower().replace(" ", "_"), message=error.description), code
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
    response.headers["Referrer-Policy"] = "no-referrer"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
