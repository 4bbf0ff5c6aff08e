"""The provider's own payment page, small: a card field, 3-D Secure, a link back to the shop."""

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
    """GET and POST /c/pay/<session>."""
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/c/pay/<session>")
    def show(session: str) -> str:
        found = state.sessions.get(session) or abort(404)
        state.age()
        if found["status"] == "open":
            return _page("card", "Pay by card", found)
        return _page("over", "This page has ended", found)

    @blueprint.post("/c/pay/<session>")
    def pay(session: str) -> AnyResponse:
        found = state.sessions.get(session) or abort(404)
        if answer := request.form.get("answer"):
            came_to = payments.authenticate(state, found, answer == "yes")
        else:
            came_to = payments.pay(state, found, request.form.get("number", "").replace(" ", ""))
        if came_to == "paid":
            return redirect(found["success_url"], 303)
        if came_to == "asks":
            return Response(_page("asks", "Your bank asks whether it is you", found))
        return Response(_page("card" if came_to == "declined" else "over", f"Your card: {came_to}", found))

    return blueprint


def _page(kind: str, heading: str, session: dict[str, str]) -> str:
    return render_template_string(PAGE, kind=kind, heading=heading, back=session["cancel_url"])
