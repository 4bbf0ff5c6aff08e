"""`kill -9` at every named point of claim, ask, record, of recovery and of refunds. Recovery settles everything."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import make_url

from app.charges import protocol, receipts, recovery, refunds
from app.charges.protocol import Purchase
from app.charges.rows import ChargeSnapshot
from app.charges.states import PENDING
from app.charges.tokens import new_receipt_id
from app.gateways.sandbox.cards import CARDS, Behaviour
from tests.factories import order, purchase
from tests.faults.conftest import ENOUGH_STOCK
from tests.faults.kills import Point, commits, dies_at, questions
from tests.faults.rounds import TIMES, report
from tests.gateways.bank import running_bank
from tests.recovery import count_unsettled, recover_and_audit
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 120 * TIMES)]

ROUNDS = 2 * TIMES
NUMBER = {card.behaviour: card.number for card in CARDS}


class Task(NamedTuple):
    """Something that a process does after `prepare`, and the points at which it is killed."""

    name: str
    prepare: Callable[[Shop], Callable[[], Any]]
    points: list[Point]


class Shown:
    """The charges that shoppers were shown, by receipt id, and the purchases that were killed in this round."""

    def __init__(self) -> None:
        self.charges: dict[UUID, ChargeSnapshot] = {}
        self.killed: list[Purchase] = []

    def add(self, charge: ChargeSnapshot) -> None:
        self.charges[charge.receipt_id] = charge

    def check(self) -> int:
        """Check that every receipt exists and that no final status has changed. Return the number of receipts."""
        for receipt_id, shown in self.charges.items():
            now = _find(receipt_id)
            assert (now.amount, now.currency, now.order_id) == (shown.amount, shown.currency, shown.order_id)
            assert shown.status in PENDING or now.status == shown.status, (shown, now)
        return len(self.charges)


def _find(receipt_id: UUID) -> ChargeSnapshot:
    charge = receipts.find_charge(receipt_id)
    assert charge is not None, receipt_id
    return charge


def pay(shown: Shown, card: Behaviour, seconds: float = 3.0) -> Callable[[Shop], Callable[[], Any]]:
    """Prepare one press of the Pay button."""

    def prepare(shop: Shop) -> Callable[[], Any]:
        pressed = purchase(order(), NUMBER[card])
        shown.killed.append(pressed)
        return lambda: protocol.pay(pressed, shop.gateway, seconds)

    return prepare


def recover(taken: bool) -> Callable[[Shop], Callable[[], Any]]:
    """Prepare a pass of recovery over a charge whose process died after the claim.

    If `taken`, it died after the bank had taken the money.
    """

    def prepare(shop: Shop) -> Callable[[], Any]:
        pressed = purchase(order())
        charge = protocol.claim(pressed, shop.gateway, 3.0)
        if taken:
            shop.gateway.charge(charge.payment, pressed.card, 3.0)
        return _one_pass(shop)

    return prepare


def _one_pass(shop: Shop) -> Callable[[], Any]:
    """Return a pass over the newest charge only. Charges of earlier kills wait until the round is over."""
    shop.execute("UPDATE charge SET ask_at = '2049-01-01 00:00:00+00:00' WHERE ended_at IS NULL")
    shop.execute("UPDATE charge SET ask_at = created_at WHERE id = (SELECT max(id) FROM charge)")
    return lambda: recovery.run(shop.gateways, 3.0, 3600.0)


def refund(shop: Shop) -> Callable[[], Any]:
    """Prepare a refund."""
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    return lambda: refunds.refund(charge, 1000, shop.gateway, 3.0)


def recover_refund(shop: Shop) -> Callable[[], Any]:
    """Prepare a pass of recovery over a refund whose process died after the claim."""
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    refunds.claim(charge, 700, uuid4(), 3.0)
    shop.execute("UPDATE charge SET ask_at = '2049-01-01 00:00:00+00:00' WHERE ended_at IS NULL")
    shop.execute("UPDATE refund SET ask_at = created_at WHERE charge_id = :id", id=charge.id)
    return lambda: recovery.run(shop.gateways, 3.0, 3600.0)


def tasks(shown: Shown) -> list[Task]:
    """Return the tasks with their points. `pay` commits claim and record, a pass of recovery lease and record."""
    return [
        Task("pay", pay(shown, Behaviour.APPROVES), commits(1, 2) + questions(1)),
        Task("pay, declined", pay(shown, Behaviour.DECLINES), commits(1, 2) + questions(1)),
        Task("pay, first answer lost", pay(shown, Behaviour.LOSES_FIRST_ANSWER), commits(2) + questions(2)),
        Task("pay, first answer an error", pay(shown, Behaviour.FAILS_BEFORE_TAKING), commits(2) + questions(1, 2)),
        Task("pay, 3-D Secure", pay(shown, Behaviour.ASKS_SHOPPER), commits(1, 2) + questions(1)),
        Task("pay, no answer", pay(shown, Behaviour.SILENT_TAKES, 0.3), commits(2)),
        Task("recover a payment that was taken", recover(taken=True), commits(1, 2) + questions(1)),
        Task("recover a payment that was not sent", recover(taken=False), commits(1, 2) + questions(1, 2)),
        Task("refund", refund, commits(1, 2) + questions(1)),
        Task("recover a refund", recover_refund, commits(1, 2) + questions(1, 2)),
    ]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Yield a folder in memory, which is fast. Only processes die in these tests, so files need not be durable."""
    root = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=root if os.access(root, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def database_url(database_url: str, engine_name: str, in_memory: Path) -> str:
    if engine_name == "postgresql":
        return database_url
    shutil.copyfile(str(make_url(database_url).database), in_memory / "shop.sqlite")
    return f"sqlite:///{in_memory}/shop.sqlite"


@pytest.fixture
def shop(make_shop: Callable[..., Shop], in_memory: Path, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop whose bank is a separate process, which does not die together with the shop's process."""
    shop = make_shop()
    shop.execute(ENOUGH_STOCK)
    with running_bank(f"sqlite:///{in_memory}/bank.sqlite", tmp_path) as bank:
        shop.gateway = bank.gateway
        shop.gateways.use(bank.gateway)
        yield shop


def press_again(shown: Shown, shop: Shop) -> None:
    """Let each shopper whose server died send the same form again, with the same token."""
    while shown.killed:
        pressed = shown.killed.pop()
        shown.add(protocol.pay(replace(pressed, receipt_id=new_receipt_id()), shop.gateway, 3.0))


def test_no_payment_is_lost_or_made_twice_after_a_kill_at_any_point(app: Flask, shop: Shop, engine_name: str) -> None:
    shown, kills, missed, start = Shown(), 0, set(), time.monotonic()
    for round_ in range(ROUNDS):
        for task in tasks(shown):
            for point in task.points:
                died = dies_at(point, shop, task.prepare(shop))
                kills += died
                if not died:
                    missed.add(f"{task.name}: {point}")
        spent = time.monotonic() - start
        if round_ % 2 == 0:
            press_again(shown, shop)
        shown.killed.clear()
        recover_and_audit(shop, waiting=None)
        shown.check()
    assert not missed
    assert kills == ROUNDS * sum(len(task.points) for task in tasks(shown))
    assert not count_unsettled(shop)
    report(f"kill -9 at named points, {engine_name}", kills=kills, receipts_kept=shown.check(),
           seconds=round(spent, 1), rounds=ROUNDS)  # fmt: skip
