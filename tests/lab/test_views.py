"""The Lab's pages, in this process; what is played is tested elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import runner
from lab.race import Result
from lab.runs import AT_ONCE, Runs, folder
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
    """The runs that would have been started."""
    runs: list[str] = []
    monkeypatch.setattr(runner, "start", lambda _folder, run: runs.append(run))
    return runs


@pytest.fixture
def visitor(shop: Shop) -> Shopper:
    return shop.shopper()


def press(visitor: Shopper, cells: str) -> Any:
    """A button of the matrix; the answer itself."""
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
def test_a_cell_that_does_not_exist_is_not_played(visitor: Shopper, started: list[str], cells: str) -> None:
    assert press(visitor, cells).status_code == 422
    assert started == []


def test_without_csrf_token_nothing_is_played(visitor: Shopper, started: list[str]) -> None:
    assert visitor.post("/lab/runs", {"cells": "all"}).status_code == 400
    assert started == []


def test_a_second_button_leads_to_the_run_that_is_going(visitor: Shopper, started: list[str]) -> None:
    first, second = press(visitor, "all"), press(visitor, "1")
    assert first.headers["Location"] == second.headers["Location"]
    assert len(started) == 1


def test_two_visitors_at_once_and_too_many(shop: Shop, started: list[str]) -> None:
    answers = [press(shop.shopper(), "7") for _ in range(AT_ONCE + 1)]
    assert [answer.status_code for answer in answers] == [303] * AT_ONCE + [503]
    assert len(set(started)) == AT_ONCE


def test_results_arrive_on_the_page_and_as_json(visitor: Shopper, started: list[str]) -> None:
    press(visitor, "all")
    runs = Runs(folder(SECRET))
    runs.note(started[0], (1, 1), "running")
    page = visitor.open(f"/lab/runs/{started[0]}")
    assert page.root.all("meta", **{"http-equiv": "refresh"}), "without a script the page refreshes itself"
    runs.note(started[0], (1, 1), "done", Result(1, 1, 2, "paid", "red", 0.1, STEPS))
    told = visitor.client.get(f"/lab/runs/{started[0]}.json").json()
    assert told["going"]
    assert "2×" in told["cells"]["1-1"]
    runs.end(started[0])
    page = visitor.open(f"/lab/runs/{started[0]}")
    assert not page.root.all("meta", **{"http-equiv": "refresh"})
    assert not visitor.client.get(f"/lab/runs/{started[0]}.json").json()["going"]


def test_a_trace_marks_where_the_money_was_taken_again(visitor: Shopper, started: list[str]) -> None:
    press(visitor, "2-3")
    Runs(folder(SECRET)).note(started[0], (2, 3), "done", Result(2, 3, 2, "paid", "red", 0.1, STEPS))
    page = visitor.open(f"/lab/runs/{started[0]}/2/3")
    assert "The bank took the money twice" in page.text
    assert "taken again" in page.text
    assert "nothing tells two forms from one" in page.text, "the line that lets it happen"
    assert "_claim_or_find" in page.text, "the lines that prevent it"


@pytest.mark.parametrize(
    "path", ["/lab/runs/unknown", "/lab/runs/unknown.json", "/lab/runs/unknown/1/1", "/lab/code/wsgi.py",
             "/lab/code/../../etc/passwd", "/lab/try/8/", "/lab/try/0/", "/lab/bank/8"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(visitor: Shopper, path: str) -> None:
    assert visitor.client.get(path).status_code == 404


def test_every_file_that_the_lesson_names_can_be_read(visitor: Shopper) -> None:
    page: Page = visitor.open("/lab")
    linked = {link.attrs["href"] for link in page.root.all("a") if link.attrs["href"].startswith("/lab/code/")}
    assert {"/lab/code/app/charges/protocol.py", "/lab/code/lab/defences/checked.py"} <= linked
    assert [href for href in linked if visitor.open(href).status != 200] == []


def test_the_lesson_is_short(visitor: Shopper) -> None:
    lesson = next(part for part in visitor.open("/lab").root.all("section") if "lesson" in part.attrs.get("class", ""))
    assert len(lesson.text.split()) <= 400


def test_the_lab_can_be_off(make_shop: Callable[..., Shop], lab_folder: Path) -> None:
    shop = make_shop(lab=False)
    assert shop.shopper().client.get("/lab").status_code == 404
    assert "lab" not in shop.app.cli.commands


def test_with_a_real_gateway_the_lab_is_off_unless_asked_for(shop: Shop) -> None:
    assert shop.settings().has_lab
    assert not shop.settings(payment_gateway="stripe").has_lab
    assert shop.settings(payment_gateway="stripe", lab=True).has_lab
