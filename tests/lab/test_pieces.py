"""The lab's clock, its picture and its excerpts."""

import pytest
from sqlalchemy import create_engine, text

from lab import drawing, excerpts
from lab.attacks import ATTACKS
from lab.bank import Gate
from lab.clock import DAY, Clock
from lab.defences import DEFENCES
from lab.trace import BANK, DATABASE, SHOPPER, Step

STEPS = [
    Step(0.0, SHOPPER, "POST /pay", "worker 1"),
    Step(0.1, "worker 1", "charge, key a", BANK),
    Step(0.2, BANK, "takes the money (key a)", kind="money"),
    Step(0.3, "worker 3", "charge, key b", BANK),
    Step(0.4, BANK, "takes the money (key b)", kind="money"),
    Step(0.5, "worker 2", "SELECT", DATABASE),
    Step(0.6, "worker 1", "is killed (SIGKILL)", kind="killed"),
]


def test_a_day_passes_for_the_database_too() -> None:
    clock, engine = Clock(), create_engine("sqlite://")
    clock.drive(engine)
    with engine.connect() as look:
        now = text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '0 seconds')")
        before = look.execute(now).scalar_one()
        clock.move(DAY)
        later = look.execute(now).scalar_one()
    assert len(before) == len("2030-01-01 00:00:00.000")
    assert before[:10] < later[:10]
    assert before[11:16] <= later[11:16]


def test_the_second_taking_is_marked() -> None:
    assert [step.kind for step in drawing.label(STEPS)] == ["", "", "money", "", "again", "", "killed"]


def test_of_many_workers_those_that_asked_the_bank_are_drawn() -> None:
    picture = drawing.draw(drawing.label(STEPS))
    assert [life.name for life in picture.lives] == [SHOPPER, "worker 1", "worker 3", DATABASE, BANK]
    assert picture.hidden == 1
    assert [life.name for life in picture.lives if life.killed] == ["worker 1"]
    assert all(0 < row.text_x < picture.width for row in picture.rows)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_what_prevents_an_attack_is_still_in_the_program(attack: object) -> None:
    found = excerpts.of_payonce(attack.number)  # type: ignore[attr-defined]
    assert found
    for part in found:
        whole = (excerpts.ROOT / part.file).read_text().splitlines()
        assert part.lines[0][0].strip() == whole[part.first - 1].strip()


@pytest.mark.parametrize("defence", [one for one in DEFENCES if one.module], ids=lambda defence: defence.name)
def test_the_decisive_line_of_each_defence_is_marked(defence: object) -> None:
    lines = [line for part in excerpts.of_defence(defence.number) for line in part.lines]  # type: ignore[attr-defined]
    assert sum(marked for _, marked in lines) == 1


def test_a_gate_opens_when_all_have_arrived_and_when_nobody_comes_any_more() -> None:
    full = Gate(1, quiet=60)
    full.hold(1)  # Would wait a minute.
    Gate(2, quiet=0.01).hold(1)
