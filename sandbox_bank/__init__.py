"""The sandbox bank: an application of its own, with its own storage, HTTP interface and page for shoppers."""

from flask import Flask, Response, g, jsonify, request
from flask.sessions import SessionInterface, SessionMixin
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response as AnyResponse

from sandbox_bank.api import api
from sandbox_bank.pages import page_not_found, page_refused, page_unavailable, pages
from sandbox_bank.storage import open_storage


class NoSession(SessionInterface):
    """The bank sets no cookie: it shares its host, and so its cookies, with the shop on the next port."""

    def open_session(self, app: Flask, request: object) -> None:
        """There is none."""

    def save_session(self, app: Flask, session: SessionMixin, response: AnyResponse) -> None:
        """There is nothing to save."""


def create_bank(database_url: str, *, slow_seconds: float = 5, hold_seconds: float = 60) -> Flask:
    """The bank over the books at `database_url`, whose tables are made where they are missing.

    `slow_seconds`: how long the slow card takes. `hold_seconds`: how long a card that never answers keeps the
    connection at most. Raises ValueError or SQLAlchemyError where the books can't be opened.
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
        return jsonify(error="unavailable", message="The bank can't reach its books."), 503
    return page_unavailable(503)


def _headers(response: Response) -> Response:
    """The page may load its own style sheet and send its form to the bank, which leads on to the shop."""
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
