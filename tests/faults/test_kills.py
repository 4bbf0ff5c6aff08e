"""kill -9 at every named point of claim, ask, record, of recovery and of refunds. Then: heal, and nothing is amiss."""

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
from tests.faults.kills import Point, commits, dies_at, questions
from tests.faults.rounds import TIMES, say
from tests.gateways.bank import running_bank
from tests.healing import heal, unsettled
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 120 * TIMES)]

ROUNDS = 2 * TIMES
NUMBER = {card.behaviour: card.number for card in CARDS}


class Act(NamedTuple):
    """Something that a process does, prepared beforehand, and every point where it may die meanwhile."""

    name: str
    prepare: Callable[[Shop], Callable[[], Any]]
    points: list[Point]


class Ledger:
    """What was said to shoppers: once an outcome was final, it must be the same for ever."""

    def __init__(self) -> None:
        self.said: dict[UUID, ChargeSnapshot] = {}
        self.pressed: list[Purchase] = []

    def hear(self, charge: ChargeSnapshot) -> None:
        self.said[charge.receipt_id] = charge

    def check(self) -> int:
        """Every receipt that somebody was sent to exists and says what it said; how many there are."""
        for receipt, said in self.said.items():
            now = _find(receipt)
            assert (now.amount, now.currency, now.order_id) == (said.amount, said.currency, said.order_id)
            assert said.status in PENDING or now.status == said.status, (said, now)
        return len(self.said)


def _find(receipt: UUID) -> ChargeSnapshot:
    found = receipts.find_charge(receipt)
    assert found is not None, receipt
    return found


def pay(ledger: Ledger, card: Behaviour, seconds: float = 3.0) -> Callable[[Shop], Callable[[], Any]]:
    """One press of the button."""

    def prepare(shop: Shop) -> Callable[[], Any]:
        press = purchase(order(), NUMBER[card])
        ledger.pressed.append(press)
        return lambda: protocol.pay(press, shop.gateway, seconds)

    return prepare


def recover(taken: bool) -> Callable[[Shop], Callable[[], Any]]:
    """A pass of recovery over a charge whose worker died after the claim; `taken`: the bank had the request."""

    def prepare(shop: Shop) -> Callable[[], Any]:
        press = purchase(order())
        charge = protocol.claim(press, shop.gateway, 3.0)
        if taken:
            shop.gateway.charge(charge.payment, press.card, 3.0)
        return _one_pass(shop)

    return prepare


def _one_pass(shop: Shop) -> Callable[[], Any]:
    """Over the newest charge alone: what died before in this round waits until the round is over."""
    shop.execute("UPDATE charge SET ask_at = '2049-01-01 00:00:00+00:00' WHERE ended_at IS NULL")
    shop.execute("UPDATE charge SET ask_at = created_at WHERE id = (SELECT max(id) FROM charge)")
    return lambda: recovery.run(shop.gateways, 3.0, 3600.0)


def refund(shop: Shop) -> Callable[[], Any]:
    """A refund of a payment."""
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    return lambda: refunds.refund(charge, 1000, shop.gateway, 3.0)


def recover_refund(shop: Shop) -> Callable[[], Any]:
    """A pass of recovery over a refund whose worker died after the claim."""
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    refunds.claim(charge, 700, uuid4(), 3.0)
    shop.execute("UPDATE charge SET ask_at = '2049-01-01 00:00:00+00:00' WHERE ended_at IS NULL")
    shop.execute("UPDATE refund SET ask_at = created_at WHERE charge_id = :id", id=charge.id)
    return lambda: recovery.run(shop.gateways, 3.0, 3600.0)


def acts(ledger: Ledger) -> list[Act]:
    """Each act with its points: pay commits the claim (1) and the record (2); a pass first commits a lease."""
    return [
        Act("pay", pay(ledger, Behaviour.APPROVES), commits(1, 2) + questions(1)),
        Act("pay, declined", pay(ledger, Behaviour.DECLINES), commits(1, 2) + questions(1)),
        Act("pay, first answer lost", pay(ledger, Behaviour.LOSES_FIRST_ANSWER), commits(2) + questions(2)),
        Act("pay, first answer an error", pay(ledger, Behaviour.FAILS_BEFORE_TAKING), commits(2) + questions(1, 2)),
        Act("pay, 3-D Secure", pay(ledger, Behaviour.ASKS_SHOPPER), commits(1, 2) + questions(1)),
        Act("pay, no answer", pay(ledger, Behaviour.SILENT_TAKES, 0.3), commits(2)),
        Act("recover what was taken", recover(taken=True), commits(1, 2) + questions(1)),
        Act("recover what was never sent", recover(taken=False), commits(1, 2) + questions(1, 2)),
        Act("refund", refund, commits(1, 2) + questions(1)),
        Act("recover a refund", recover_refund, commits(1, 2) + questions(1, 2)),
    ]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that costs no disk: who kills processes, not machines, needs none."""
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
    """A shop whose bank is a process of its own: it lives on when the shop's dies."""
    shop = make_shop()
    shop.execute("UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000")
    with running_bank(f"sqlite:///{in_memory}/bank.sqlite", tmp_path) as bank:
        shop.gateway = bank.gateway
        shop.gateways.use(bank.gateway)
        yield shop


def press_again(ledger: Ledger, shop: Shop) -> None:
    """The shoppers whose server died press the button once more: the same token, whatever had become of it."""
    while ledger.pressed:
        again = ledger.pressed.pop()
        ledger.hear(protocol.pay(replace(again, receipt_id=new_receipt_id()), shop.gateway, 3.0))


def test_kills_at_every_point_lose_and_double_nothing(app: Flask, shop: Shop, engine_name: str) -> None:
    ledger, kills, missed, began = Ledger(), 0, set(), time.monotonic()
    for round_ in range(ROUNDS):
        for act in acts(ledger):
            for point in act.points:
                died = dies_at(point, shop, act.prepare(shop))
                kills += died
                if not died:
                    missed.add(f"{act.name}: {point}")
        spent = time.monotonic() - began
        if round_ % 2 == 0:
            press_again(ledger, shop)
        ledger.pressed.clear()
        heal(shop, waiting=None)
        ledger.check()
    assert not missed
    assert kills == ROUNDS * sum(len(act.points) for act in acts(ledger))
    assert not unsettled(shop)
    say(f"kill -9 at named points, {engine_name}", kills=kills, receipts_kept=ledger.check(),
        seconds=round(spent, 1), rounds=ROUNDS)  # fmt: skip
