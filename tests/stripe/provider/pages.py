"""The stand-in's payment page: a card field, 3-D Secure, and a link back to the shop."""

from flask import Blueprint, Response, abort, redirect, render_template_string, request
from werkzeug.wrappers import Response as AnyResponse

from tests.stripe.provider import payments
from tests.stripe.provider.state import State

PAGE = """<!doctype html><html lang="en"><head><title>Pay</title></head><body><main>
<h1>{{ heading }}</h1>
{% if kind == "card" %}<form method="post"><label for="number">Card number</label>
<input id="number" name="number" autocomplete="cc-number"><button>Pay</button></form>
{% elif kind == "asks" %}<form method="post"><button name="answer" value="yes">Confirm</button>
<button name="answer" value="no">Refuse</button></form>{% endif %}
<p><a href="{{ back }}">Back to the shop</a></p></main></body></html>"""


def blueprint(state: State) -> Blueprint:
    """Return the views GET and POST /c/pay/<session id>."""
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/c/pay/<session_id>")
    def show(session_id: str) -> str:
        session = state.sessions.get(session_id) or abort(404)
        state.expire_sessions()
        if session["status"] == "open":
            return _page("card", "Pay by card", session)
        return _page("over", "This page has ended", session)

    @blueprint.post("/c/pay/<session_id>")
    def pay(session_id: str) -> AnyResponse:
        session = state.sessions.get(session_id) or abort(404)
        if answer := request.form.get("answer"):
            result = payments.authenticate(state, session, answer == "yes")
        else:
            result = payments.pay(state, session, request.form.get("number", "").replace(" ", ""))
        if result == "paid":
            return redirect(session["success_url"], 303)
        if result == "asks":
            return Response(_page("asks", "Your bank asks whether it is you", session))
        return Response(_page("card" if result == "declined" else "over", f"Your card: {result}", session))

    return blueprint


def _page(kind: str, heading: str, session: dict[str, str]) -> str:
    return render_template_string(PAGE, kind=kind, heading=heading, back=session["cancel_url"])
