"""The Lab's clock, drawing, excerpts and gate."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

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


def test_advancing_the_clock_advances_the_database_clock() -> None:
    clock, engine = Clock(), create_engine("sqlite://")
    clock.apply_to(engine)
    with engine.connect() as connection:
        now = text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '0 seconds')")
        before = connection.execute(now).scalar_one()
        clock.advance(DAY)
        later = connection.execute(now).scalar_one()
    assert len(before) == len("2030-01-01 00:00:00.000")
    assert before[:10] < later[:10]
    assert before[11:16] <= later[11:16]


def test_the_second_charge_is_marked() -> None:
    assert [step.kind for step in drawing.mark_repeats(STEPS)] == ["", "", "money", "", "again", "", "killed"]


def test_workers_that_asked_the_bank_are_drawn_first() -> None:
    picture = drawing.draw(drawing.mark_repeats(STEPS))
    assert [lifeline.name for lifeline in picture.lifelines] == [SHOPPER, "worker 1", "worker 3", DATABASE, BANK]
    assert picture.hidden == 1
    assert [lifeline.name for lifeline in picture.lifelines if lifeline.killed] == ["worker 1"]
    assert all(0 < row.text_x < picture.width for row in picture.rows)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_code_that_stops_an_attack_exists(attack: object) -> None:
    found = excerpts.of_payonce(attack.number)  # type: ignore[attr-defined]
    assert found
    for part in found:
        whole = (excerpts.ROOT / part.file).read_text().splitlines()
        assert part.lines[0][0].strip() == whole[part.first - 1].strip()


@pytest.mark.parametrize("defence", [each for each in DEFENCES if each.module], ids=lambda defence: defence.name)
def test_one_line_of_each_defence_is_marked(defence: object) -> None:
    lines = [line for part in excerpts.of_defence(defence.number) for line in part.lines]  # type: ignore[attr-defined]
    assert sum(marked for _, marked in lines) == 1


@pytest.mark.parametrize(("named", "code"), excerpts.DECISIVE.items())
def test_a_decisive_line_occurs_once_in_its_excerpt_and_is_marked(named: tuple[ModuleType, str], code: str) -> None:
    lines = excerpts.excerpt(*named).lines
    assert [line.strip().partition("  # ")[0] for line, _ in lines].count(code) == 1
    assert [line.strip().partition("  # ")[0] for line, marked in lines if marked] == [code]


def test_every_decisive_line_is_in_an_excerpt_that_a_page_shows() -> None:
    of_defences = {(defence.module, name) for defence in DEFENCES for name in ("form", "pay")}
    of_payonce = {named for parts in excerpts.PREVENTS.values() for named in parts}
    assert set(excerpts.DECISIVE) <= of_defences | of_payonce


def test_a_line_with_an_ordinary_comment_is_not_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_shop.py").write_text("def pay():\n    return 1  # An ordinary comment.\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(excerpts, "ROOT", tmp_path)
    lines = excerpts.excerpt(import_module("some_shop"), "pay").lines
    assert lines == [("def pay():", False), ("    return 1  # An ordinary comment.", False)]


def test_a_decisive_line_is_compared_without_indentation_and_comment() -> None:
    assert excerpts.is_decisive("    return page  # Why.", "return page")
    assert excerpts.is_decisive("return page", "return page")
    assert not excerpts.is_decisive("    return page_of(order)  # Why.", "return page")
    assert not excerpts.is_decisive("    save(order)  # return page", "return page")
    assert not excerpts.is_decisive("    return page  # Why.", None)


def test_a_gate_opens_when_all_requests_have_arrived_or_no_more_come() -> None:
    Gate(1, quiet=60).hold(1)  # If it waited for more requests, it would wait for a minute.
    Gate(2, quiet=0.01).hold(1)
