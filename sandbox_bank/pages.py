"""The bank's own page, on which the shopper confirms or refuses a payment (3-D Secure)."""

from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.sansio.blueprints import BlueprintSetupState
from sqlalchemy import Engine
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter
from werkzeug.wrappers import Response as AnyResponse

from app.money import format_money
from sandbox_bank import charges
from sandbox_bank.storage import Status

pages = Blueprint("pages", __name__)


class ActionId(BaseConverter):
    """Matches texts that have the form of an action id. Other addresses are 404 without a query."""

    regex = "[A-Za-z0-9_-]{32}"


@pages.record_once
def _register_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["action"] = ActionId


DECISIONS = {"confirm": Status.SUCCEEDED, "refuse": Status.DECLINED}


def books() -> Engine:
    """Return the engine of the bank's database."""
    engine: Engine = current_app.config["BOOKS"]
    return engine


@pages.get("/3ds/<action:action_id>")
def action(action_id: str) -> Response:
    """GET /3ds/<action id>: ask for confirmation, or show the outcome if there is one, also after Back."""
    row = charges.find_action(books(), action_id) or abort(404)
    g.form_origin = _origin(row.return_url)
    return make_response(
        render_template(
            "action.html",
            status=row.status,
            amount=format_money(row.amount, row.currency),
            last4=row.last4,
            shop=row.shop or urlsplit(row.return_url).netloc,
            return_url=row.return_url,
        )
    )


@pages.post("/3ds/<action:action_id>")
def decide(action_id: str) -> AnyResponse:
    """POST /3ds/<action id>: record the decision. 303 to the shop, or to this page if another outcome won."""
    if not _is_from_own_page():
        abort(403)
    wanted = DECISIONS.get(request.form.get("decision", "")) or abort(400)
    row = charges.decide_action(books(), action_id, wanted) or abort(404)
    g.form_origin = _origin(row.return_url)
    if row.status == wanted:
        return redirect(row.return_url, 303)
    return redirect(url_for("pages.action", action_id=action_id), 303)


def _is_from_own_page() -> bool:
    """Return whether the form was on the bank's own page. Programs that are no browsers do not say where it was."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site != "same-origin":
        return False
    return origin is None or urlsplit(origin).netloc == request.host


def page_not_found(_error: HTTPException) -> tuple[str, int]:
    """Return the page for an address that the bank does not have."""
    message = "The bank has no page at this address."
    return render_template("error.html", title="Page not found", message=message), 404


def page_refused(error: HTTPException) -> tuple[str, int]:
    """Return the page for any other request that is not valid. It changed nothing."""
    message = "The bank could not use this request. It changed nothing and moved no money."
    return render_template("error.html", title="Request not understood", message=message), error.code or 400


def page_unavailable(code: int) -> tuple[str, int]:
    """Return the page for a failure of the bank. It is not known whether the decision was recorded."""
    message = "The bank can't answer just now. Open this page again in a moment: it will say what happened."
    return render_template("error.html", title="Please wait a moment", message=message), code


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
