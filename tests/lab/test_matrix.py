"""Every defence fails against exactly the expected attacks, and PayOnce against none.

An attack that no defence fails against would be a broken attack.
"""

from typing import Any

import pytest

from lab.attacks import ATTACKS, TWINS
from lab.defences import DEFENCES, PAYONCE
from lab.race import verdict
from tests.lab.conftest import play

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lab"), pytest.mark.timeout(600)]

#                reload  back  double  twins  tab  lost  killed  silent  day
EXPECTED = {
    1: ("red",   "red",   "red",   "red",   "red", "red", "red",   "red", "red"),
    2: ("green", "red",   "red",   "red",   "red", "red", "red",   "red", "red"),
    3: ("green", "red",   "green", "red",   "red", "red", "red",   "red", "red"),
    4: ("green", "green", "red",   "red",   "red", "red", "red",   "red", "red"),
    5: ("green", "green", "green", "green", "red", "red", "red",   "red", "green"),
    6: ("green", "green", "green", "green", "red", "red", "amber", "red", "green"),
    7: ("green",) * 9,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_each_cell_has_the_expected_verdict(
    matrix: dict[tuple[int, int], dict[str, Any]], defence: Any, attack: Any
) -> None:
    cell = matrix[defence.number, attack.number]
    assert cell["verdict"] == EXPECTED[defence.number][attack.number - 1], cell
    red = TWINS if attack.name == f"{TWINS} twins" else 2
    assert cell["charges"] == (red if cell["verdict"] == "red" else 1)


def test_what_the_shopper_is_told_in_the_end(matrix: dict[tuple[int, int], dict[str, Any]]) -> None:
    assert matrix[6, 7]["told"] == "processing", "the killed worker left an order that no process finishes"
    assert matrix[6, 8]["told"] == "declined", "a time-out was reported as a decline"
    assert {matrix[PAYONCE.number, attack.number]["told"] for attack in ATTACKS} == {"paid"}


def test_every_attack_succeeds_against_a_defence() -> None:
    assert all("red" in column for column in zip(*EXPECTED.values(), strict=True))


def test_payonce_is_green_in_every_round() -> None:
    results = play([PAYONCE.number], [attack.number for attack in ATTACKS], rounds=2)
    assert [cell for cell in results if cell["verdict"] != "green"] == []


def test_the_verdict() -> None:
    assert verdict(1, ["paid", "paid"]) == "green"
    assert verdict(1, ["paid", "processing"]) == verdict(1, ["nothing"]) == "amber"
    assert verdict(2, ["paid"]) == verdict(0, ["paid"]) == verdict(0, ["failed"]) == "red"
