"""The Lab's pages: the matrix, its runs, the traces, the code, and the shops to try by hand."""

import json
import re
from functools import cache
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from flask import Blueprint, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response
from wtforms.validators import ValidationError

from app import current
from app.security import Form, buyer_id, check_csrf, known_buyer_id
from lab import by_hand, drawing, excerpts, runner
from lab.attacks import ATTACKS, Attack
from lab.defences import DEFENCES, Defence
from lab.runs import Cell, Runs, TooManyRuns, folder

blueprint = Blueprint("lab", __name__, url_prefix="/lab", template_folder="templates", static_folder="static")

Page = Response | str | tuple[str, int]

FORWARDING = BoundedSemaphore(8)
"""Limits the requests that this process forwards at the same time, so that shoppers always find a free thread."""

FORWARDED_HEADERS = {"content-type", "cache-control", "etag", "last-modified", "location", "retry-after"}
"""Response headers of the shops to try that the visitor receives. The real shop sets all others itself."""


class RunForm(Form):
    """Has no fields of its own. The value of the button that was pressed names the cells."""


@blueprint.get("")
def matrix() -> Page:
    """GET /lab: every defence and every attack, with the results of this visitor's runs."""
    visitor = known_buyer_id()
    return _matrix_page(visitor.hex if visitor else "")


@blueprint.post("/runs")
def play() -> Page:
    """POST /lab/runs: start a run of the button's cells, then 303 to its page. The results appear there."""
    form = RunForm()
    if not form.validate():
        return _matrix_page(
            buyer_id().hex, problem="This page was open for too long. Please press the button again."
        ), 400
    cells = _chosen(request.form.get("cells", "all"))
    if cells is None:
        return _matrix_page(buyer_id().hex, problem="There is no such cell."), 422
    try:
        run, is_new = _runs().begin(buyer_id().hex, cells)
    except TooManyRuns:
        return _matrix_page(
            buyer_id().hex, problem="Others are playing at the moment. Please try again in a minute."
        ), 503
    if is_new:
        runner.start(_runs().folder, run)
    return redirect(url_for("lab.run", run=run), 303)


@blueprint.get("/runs/<run>")
def run(run: str) -> Page:
    """GET /lab/runs/<id>: the matrix with the results so far."""
    visitor = _runs().visitor(run) or abort(404)
    return _matrix_page(visitor, run)


@blueprint.get("/runs/<run>.json")
def run_json(run: str) -> Response:
    """GET /lab/runs/<id>.json: `active` (more results will come) and `cells`, the HTML of each cell that was played."""
    visitor = _runs().visitor(run) or abort(404)
    states = _runs().matrix(visitor)
    cells = {f"{d}-{a}": _cell_html(DEFENCES[d - 1], ATTACKS[a - 1], state) for (d, a), state in states.items()}
    return jsonify(active=_runs().is_active(run), cells=cells)


@blueprint.get("/runs/<run>/<int:defence>/<int:attack>")
def trace(run: str, defence: int, attack: int) -> Page:
    """GET /lab/runs/<id>/<defence>/<attack>: the steps of one cell, as a picture and a list."""
    result = (_runs().visitor(run) and _runs().result(run, (defence, attack))) or abort(404)
    steps = drawing.mark_repeats(result.steps)
    return render_template(
        "lab/trace.html", run=run, defence=DEFENCES[defence - 1], attack=ATTACKS[attack - 1], result=result,
        steps=steps, drawing=drawing.draw(steps), here=excerpts.of_defence(defence),
        payonce=excerpts.of_payonce(attack),
    )  # fmt: skip


@blueprint.get("/code/<path:file>")
def code(file: str) -> Page:
    """GET /lab/code/<file>: a source file, if it is one that the Lab refers to."""
    module = excerpts.files().get(file) or abort(404)
    return render_template("lab/code.html", file=file, excerpt=excerpts.whole(module))


@blueprint.get("/bank/<int:defence>")
def bank(defence: int) -> Page:
    """GET /lab/bank/<defence>: the statement of the visitor's bank. The page refreshes itself."""
    shown = _defence(defence)
    return render_template("lab/bank.html", defence=shown, taken=_statement(defence), form=RunForm())


@blueprint.get("/bank/<int:defence>.json")
def bank_json(defence: int) -> Response:
    """GET /lab/bank/<defence>.json: the statement as HTML, for the script that refreshes it."""
    return jsonify(html=render_template("lab/_statement.html", taken=_statement(defence)))


@blueprint.post("/bank/<int:defence>")
def start_over(defence: int) -> Page:
    """POST /lab/bank/<defence>: delete the visitor's shop and its bank. The next request creates new ones."""
    if RunForm().validate():
        _ask(defence, "DELETE", "")
    return redirect(url_for("lab.by_hand_shop", defence=defence), 303)


@blueprint.get("/try/<int:defence>/", defaults={"path": ""})
@blueprint.get("/try/<int:defence>/<path:path>")
def by_hand_shop(defence: int, path: str) -> Page:
    """GET /lab/try/<defence>/…: a page of the visitor's own small shop, with the bank's statement beside it."""
    return _forward(defence, path)


@blueprint.post("/try/<int:defence>/<path:path>")
def by_hand_post(defence: int, path: str) -> Page:
    """POST /lab/try/<defence>/…: forward a form. Small shops do not check CSRF tokens themselves; PayOnce does."""
    request.get_data(cache=True)  # Reading `request.form` first would consume the body, which is forwarded.
    if _defence(defence).create:
        try:
            check_csrf(request.form.get("csrf_token"))
        except ValidationError:
            abort(400)
    return _forward(defence, path)


def _matrix_page(visitor: str, run: str = "", problem: str = "") -> str:
    states = _runs().matrix(visitor) if visitor else {}
    active = bool(run) and _runs().is_active(run)
    return render_template(
        "lab/matrix.html", defences=DEFENCES, attacks=ATTACKS, states=states, run=run, active=active,
        form=RunForm(formdata=None), problem=problem, files=excerpts.files(),
    )  # fmt: skip


def _cell_html(defence: Defence, attack: Attack, state: Any) -> str:
    return render_template("lab/_cell.html", defence=defence, attack=attack, state=state)


def _chosen(button: str) -> list[Cell] | None:
    """Return the cells of the button "all", "4" (a row) or "4-3" (a cell); None if there is no such button."""
    found = re.fullmatch(r"all|([1-9])(?:-([1-9]))?", button)
    if found is None or int(found[1] or 1) > len(DEFENCES):
        return None
    defences = [int(found[1])] if found[1] else [defence.number for defence in DEFENCES]
    attacks = [int(found[2])] if found[2] else [attack.number for attack in ATTACKS]
    return [(defence, attack) for defence in defences for attack in attacks]


def _runs() -> Runs:
    return _open_runs(folder(current.settings().secret_key))


@cache
def _open_runs(place: Path) -> Runs:
    """Open the file once per process."""
    return Runs(place)


def _defence(number: int) -> Defence:
    return DEFENCES[number - 1] if 1 <= number <= len(DEFENCES) else abort(404)


def _statement(defence: int) -> list[list[str]]:
    _defence(defence)
    taken: list[list[str]] = json.loads(_ask(defence, "GET", "?statement").content)
    return taken


def _ask(defence: int, method: str, path: str, **options: Any) -> Any:
    """Send a request about this visitor's shop to the shops' process. Abort with 503 if it is busy or unavailable."""
    if not FORWARDING.acquire(blocking=False):
        abort(503)
    try:
        return by_hand.ask(_runs().folder, method, f"/{buyer_id().hex}/{defence}/{path}", **options)
    except by_hand.ShopsUnavailable:
        abort(503)
    finally:
        FORWARDING.release()


def _forward(defence: int, path: str) -> Response:
    """Send the request to the visitor's shop. Return its response, with the statement put into an HTML page.

    The shop's cookie is renamed and limited to the shop's path, so that it never mixes with the real shop's cookie.
    """
    shown, cookie = _defence(defence), f"lab{defence}"
    headers = {name: request.headers.get(name, "") for name in ("Content-Type", "Accept-Language")}
    if cookie in request.cookies:
        headers["Cookie"] = f"payonce={request.cookies[cookie]}"
    target = f"{path}?{request.query_string.decode()}" if request.query_string else path
    answer = _ask(defence, request.method, target, content=request.get_data(cache=True), headers=headers)
    kept = [(name, value) for name, value in answer.headers.items() if name in FORWARDED_HEADERS]
    content = answer.content
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        content = _with_statement(shown, answer.text).encode()
    response = Response(content, answer.status_code, kept)
    if found := re.search(r"payonce=([^;]*)", answer.headers.get("Set-Cookie", "")):
        response.set_cookie(cookie, found[1], path=f"/lab/try/{defence}/", httponly=True, samesite="Lax",
                            secure=request.is_secure)  # fmt: skip
    return response


def _with_statement(defence: Defence, html: str) -> str:
    """Add the Lab's style, script and statement to the shop's page, and a CSRF token to a small shop's form."""
    taken = _statement(defence.number)
    small_shop = defence.create is not None
    head = render_template("lab/_head.html", small_shop=small_shop, script="data-once" in html)
    side = render_template("lab/_beside.html", defence=defence, taken=taken, form=RunForm())
    html = html.replace("</head>", head + "</head>", 1).replace("</body>", side + "</body>", 1)
    if small_shop:
        field = str(RunForm().csrf_token(id=False))
        html = re.sub(r'(<form method="post"[^>]*>)', lambda form: form[1] + field, html, count=1)
    return html
