"""The Lab's pages: the matrix, its runs, the traces, the shops to try by hand, and the code."""

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
from lab.runs import Cell, Full, Runs, folder

blueprint = Blueprint("lab", __name__, url_prefix="/lab", template_folder="templates", static_folder="static")

Page = Response | str | tuple[str, int]

AT_ONCE = BoundedSemaphore(8)
"""Pages of the shops by hand that this process asks for at once: a shopper's threads are not for playing."""

PASSED_ON = {"content-type", "cache-control", "etag", "last-modified", "location", "retry-after"}
"""Headers of the shops by hand that reach the visitor; the rest is the shop's own."""


class RunForm(Form):
    """Nothing to fill in: the button that was pressed says which cells."""


@blueprint.get("")
def matrix() -> Page:
    """GET /lab: every defence and every attack, with what this visitor has seen played."""
    visitor = known_buyer_id()
    return _matrix_page(visitor.hex if visitor else "")


@blueprint.post("/runs")
def play() -> Page:
    """POST /lab/runs: play what the button says, then 303 to the page where the results arrive."""
    form = RunForm()
    if not form.validate():
        return _matrix_page(buyer_id().hex, problem="This page was open for long. Please press the button again."), 400
    cells = _chosen(request.form.get("cells", "all"))
    if cells is None:
        return _matrix_page(buyer_id().hex, problem="There is no such cell."), 422
    try:
        run, is_new = _runs().begin(buyer_id().hex, cells)
    except Full:
        return _matrix_page(buyer_id().hex, problem="Others are playing just now. Please try again in a minute."), 503
    if is_new:
        runner.start(_runs().folder, run)
    return redirect(url_for("lab.run", run=run), 303)


@blueprint.get("/runs/<run>")
def run(run: str) -> Page:
    """GET /lab/runs/<id>: the matrix as the results arrive."""
    visitor = _runs().visitor(run) or abort(404)
    return _matrix_page(visitor, run)


@blueprint.get("/runs/<run>.json")
def run_json(run: str) -> Response:
    """GET /lab/runs/<id>.json: whether more will come, and each cell that has something to show, as HTML."""
    visitor = _runs().visitor(run) or abort(404)
    states = _runs().matrix(visitor)
    cells = {f"{d}-{a}": _cell_html(DEFENCES[d - 1], ATTACKS[a - 1], state) for (d, a), state in states.items()}
    return jsonify(going=_runs().going(run), cells=cells)


@blueprint.get("/runs/<run>/<int:defence>/<int:attack>")
def trace(run: str, defence: int, attack: int) -> Page:
    """GET /lab/runs/<id>/<defence>/<attack>: what happened in one cell, step by step."""
    result = (_runs().visitor(run) and _runs().result(run, (defence, attack))) or abort(404)
    steps = drawing.label(result.steps)
    return render_template(
        "lab/trace.html", run=run, defence=DEFENCES[defence - 1], attack=ATTACKS[attack - 1], result=result,
        steps=steps, drawing=drawing.draw(steps), here=excerpts.of_defence(defence),
        payonce=excerpts.of_payonce(attack),
    )  # fmt: skip


@blueprint.get("/code/<path:file>")
def code(file: str) -> Page:
    """GET /lab/code/<file>: a file of the program, of those that the lab speaks of."""
    module = excerpts.files().get(file) or abort(404)
    return render_template("lab/code.html", file=file, excerpt=excerpts.whole(module))


@blueprint.get("/bank/<int:defence>")
def bank(defence: int) -> Page:
    """GET /lab/bank/<defence>: the statement of the visitor's bank, on a page that refreshes itself."""
    shown = _defence(defence)
    return render_template("lab/bank.html", defence=shown, taken=_statement(defence), form=RunForm())


@blueprint.get("/bank/<int:defence>.json")
def bank_json(defence: int) -> Response:
    """GET /lab/bank/<defence>.json: the same as HTML for the page beside the shop."""
    return jsonify(html=render_template("lab/_statement.html", taken=_statement(defence)))


@blueprint.post("/bank/<int:defence>")
def start_over(defence: int) -> Page:
    """POST /lab/bank/<defence>: throw the visitor's shop and its bank away, and begin with new ones."""
    if RunForm().validate():
        _ask(defence, "DELETE", "")
    return redirect(url_for("lab.by_hand_shop", defence=defence), 303)


@blueprint.get("/try/<int:defence>/", defaults={"path": ""})
@blueprint.get("/try/<int:defence>/<path:path>")
def by_hand_shop(defence: int, path: str) -> Page:
    """GET /lab/try/<defence>/…: a page of the visitor's own small shop, with the bank's statement beside it."""
    return _passed_on(defence, path)


@blueprint.post("/try/<int:defence>/<path:path>")
def by_hand_post(defence: int, path: str) -> Page:
    """POST /lab/try/<defence>/…: to the visitor's own small shop. PayOnce's own check covers its forms."""
    request.get_data(cache=True)  # Before the form is read from it: the shop needs it as it came.
    if _defence(defence).create:
        try:
            check_csrf(request.form.get("csrf_token"))
        except ValidationError:
            abort(400)
    return _passed_on(defence, path)


def _matrix_page(visitor: str, run: str = "", problem: str = "") -> str:
    states = _runs().matrix(visitor) if visitor else {}
    going = bool(run) and _runs().going(run)
    return render_template(
        "lab/matrix.html", defences=DEFENCES, attacks=ATTACKS, states=states, run=run, going=going,
        form=RunForm(formdata=None), problem=problem, files=excerpts.files(),
    )  # fmt: skip


def _cell_html(defence: Defence, attack: Attack, state: Any) -> str:
    return render_template("lab/_cell.html", defence=defence, attack=attack, state=state)


def _chosen(button: str) -> list[Cell] | None:
    """ "all", "4" for a row, "4-3" for a cell; None for anything else."""
    found = re.fullmatch(r"all|([1-9])(?:-([1-9]))?", button)
    if found is None or int(found[1] or 1) > len(DEFENCES):
        return None
    defences = [int(found[1])] if found[1] else [defence.number for defence in DEFENCES]
    attacks = [int(found[2])] if found[2] else [attack.number for attack in ATTACKS]
    return [(defence, attack) for defence in defences for attack in attacks]


def _runs() -> Runs:
    """The file of runs, opened once a process."""
    return _open_runs(folder(current.settings().secret_key))


@cache
def _open_runs(place: Path) -> Runs:
    return Runs(place)


def _defence(number: int) -> Defence:
    return DEFENCES[number - 1] if 1 <= number <= len(DEFENCES) else abort(404)


def _statement(defence: int) -> list[list[str]]:
    _defence(defence)
    taken: list[list[str]] = json.loads(_ask(defence, "GET", "?statement").content)
    return taken


def _ask(defence: int, method: str, path: str, **given: Any) -> Any:
    """The process of the shops by hand, about this visitor's. 503 where it is busy or does not come up."""
    if not AT_ONCE.acquire(blocking=False):
        abort(503)
    try:
        return by_hand.ask(_runs().folder, method, f"/{buyer_id().hex}/{defence}/{path}", **given)
    except by_hand.ByHandAway:
        abort(503)
    finally:
        AT_ONCE.release()


def _passed_on(defence: int, path: str) -> Response:
    """The request to the visitor's shop, under its own cookie, and its answer with the statement beside it."""
    shown, cookie = _defence(defence), f"lab{defence}"
    headers = {name: request.headers.get(name, "") for name in ("Content-Type", "Accept-Language")}
    if cookie in request.cookies:
        headers["Cookie"] = f"payonce={request.cookies[cookie]}"
    asked = f"{path}?{request.query_string.decode()}" if request.query_string else path
    answer = _ask(defence, request.method, asked, content=request.get_data(cache=True), headers=headers)
    kept = [(name, value) for name, value in answer.headers.items() if name in PASSED_ON]
    content = answer.content
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        content = _beside(shown, answer.text).encode()
    response = Response(content, answer.status_code, kept)
    if found := re.search(r"payonce=([^;]*)", answer.headers.get("Set-Cookie", "")):
        response.set_cookie(cookie, found[1], path=f"/lab/try/{defence}/", httponly=True, samesite="Lax",
                            secure=request.is_secure)  # fmt: skip
    return response


def _beside(defence: Defence, html: str) -> str:
    """The shop's page with the lab's own style, script and statement put in."""
    taken = _statement(defence.number)
    head = render_template("lab/_head.html", stall=defence.create is not None, script="data-once" in html)
    side = render_template("lab/_beside.html", defence=defence, taken=taken, form=RunForm())
    html = html.replace("</head>", head + "</head>", 1).replace("</body>", side + "</body>", 1)
    if defence.create:
        field = str(RunForm().csrf_token(id=False))
        html = re.sub(r'(<form method="post"[^>]*>)', lambda form: form[1] + field, html, count=1)
    return html
