"""The Lab's pages. No scene is played here; `test_matrix.py` does that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import runner
from lab.race import Result
from lab.runs import MOST_ACTIVE, Runs, folder
from lab.trace import BANK, SHOPPER, Step
from tests.factories import SECRET
from tests.page import Page, Shopper
from tests.shops import Shop

STEPS = [
    Step(0.1, SHOPPER, "opens the form"),
    Step(0.2, BANK, "takes the money (key a)", kind="money"),
    Step(0.3, BANK, "takes the money (key b)", kind="money"),
]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of runs that are started. No process plays them."""
    runs: list[str] = []
    monkeypatch.setattr(runner, "start", lambda _folder, run: runs.append(run))
    return runs


@pytest.fixture
def visitor(shop: Shop) -> Shopper:
    return shop.shopper()


def press(visitor: Shopper, cells: str) -> Any:
    """Press a button of the matrix. Return the response without following its redirect."""
    token = visitor.open("/lab").root.first("input", name="csrf_token").attrs["value"]  # type: ignore[union-attr]
    return visitor.post("/lab/runs", {"csrf_token": token, "cells": cells})


def test_the_matrix_has_a_button_for_each_cell(visitor: Shopper) -> None:
    page = visitor.open("/lab")
    assert page.heading == "The Lab"
    values = [button.attrs["value"] for button in page.root.all("button", name="cells")]
    assert len(values) == 1 + 7 + 63


@pytest.mark.parametrize(("cells", "count"), [("all", 63), ("4", 9), ("4-3", 1)])
def test_a_button_starts_a_run_of_its_cells(visitor: Shopper, started: list[str], cells: str, count: int) -> None:
    answer = press(visitor, cells)
    assert answer.status_code == 303
    assert [answer.headers["Location"]] == [f"/lab/runs/{run}" for run in started]
    assert len(Runs(folder(SECRET)).waiting(started[0])) == count


@pytest.mark.parametrize("cells", ["", "8", "4-0", "all-1", "1-1-1", "<script>"])
def test_an_unknown_cell_is_refused(visitor: Shopper, started: list[str], cells: str) -> None:
    assert press(visitor, cells).status_code == 422
    assert started == []


def test_without_a_csrf_token_nothing_is_played(visitor: Shopper, started: list[str]) -> None:
    assert visitor.post("/lab/runs", {"cells": "all"}).status_code == 400
    assert started == []


def test_a_second_button_redirects_to_the_active_run(visitor: Shopper, started: list[str]) -> None:
    first, second = press(visitor, "all"), press(visitor, "1")
    assert first.headers["Location"] == second.headers["Location"]
    assert len(started) == 1


def test_too_many_active_runs_are_refused_with_503(shop: Shop, started: list[str]) -> None:
    answers = [press(shop.shopper(), "7") for _ in range(MOST_ACTIVE + 1)]
    assert [answer.status_code for answer in answers] == [303] * MOST_ACTIVE + [503]
    assert len(set(started)) == MOST_ACTIVE


def test_results_appear_on_the_page_and_in_the_json(visitor: Shopper, started: list[str]) -> None:
    press(visitor, "all")
    runs = Runs(folder(SECRET))
    runs.set_state(started[0], (1, 1), "running")
    page = visitor.open(f"/lab/runs/{started[0]}")
    assert page.root.all("meta", **{"http-equiv": "refresh"}), "without a script the page refreshes itself"
    runs.set_state(started[0], (1, 1), "done", Result(1, 1, 2, "paid", "red", 0.1, STEPS))
    state = visitor.client.get(f"/lab/runs/{started[0]}.json").json()
    assert state["active"]
    assert "2×" in state["cells"]["1-1"]
    runs.end(started[0])
    page = visitor.open(f"/lab/runs/{started[0]}")
    assert not page.root.all("meta", **{"http-equiv": "refresh"})
    assert not visitor.client.get(f"/lab/runs/{started[0]}.json").json()["active"]


def test_a_trace_shows_the_second_charge_and_the_code_behind_it(visitor: Shopper, started: list[str]) -> None:
    press(visitor, "2-3")
    Runs(folder(SECRET)).set_state(started[0], (2, 3), "done", Result(2, 3, 2, "paid", "red", 0.1, STEPS))
    page = visitor.open(f"/lab/runs/{started[0]}/2/3")
    assert "The bank took the money twice" in page.text
    assert "taken again" in page.text
    assert "no token identifies the form" in page.text, "the code that allows it"
    assert "_claim_or_find" in page.text, "the code that prevents it"


@pytest.mark.parametrize(
    "path", ["/lab/runs/unknown", "/lab/runs/unknown.json", "/lab/runs/unknown/1/1", "/lab/code/wsgi.py",
             "/lab/code/../../etc/passwd", "/lab/try/8/", "/lab/try/0/", "/lab/bank/8"],
)  # fmt: skip
def test_unknown_addresses_are_not_found(visitor: Shopper, path: str) -> None:
    assert visitor.client.get(path).status_code == 404


def test_every_linked_source_file_can_be_read(visitor: Shopper) -> None:
    page: Page = visitor.open("/lab")
    linked = {link.attrs["href"] for link in page.root.all("a") if link.attrs["href"].startswith("/lab/code/")}
    assert {"/lab/code/app/charges/protocol.py", "/lab/code/lab/defences/checked.py"} <= linked
    assert [href for href in linked if visitor.open(href).status != 200] == []


def test_the_lesson_is_short(visitor: Shopper) -> None:
    lesson = next(part for part in visitor.open("/lab").root.all("section") if "lesson" in part.attrs.get("class", ""))
    assert len(lesson.text.split()) <= 400


def test_the_lab_can_be_switched_off(make_shop: Callable[..., Shop], lab_folder: Path) -> None:
    shop = make_shop(lab=False)
    assert shop.shopper().client.get("/lab").status_code == 404
    assert "lab" not in shop.app.cli.commands


def test_with_a_real_gateway_the_lab_is_off_by_default(shop: Shop) -> None:
    assert shop.settings().has_lab
    assert not shop.settings(payment_gateway="stripe").has_lab
    assert shop.settings(payment_gateway="stripe", lab=True).has_lab
