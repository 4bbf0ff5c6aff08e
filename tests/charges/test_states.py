"""Legal transitions are enforced twice: by the compare-and-set in the code and by a trigger of the database."""

from itertools import product

import pytest
from flask import Flask
from sqlalchemy.exc import DatabaseError

from app.charges import protocol, rows
from app.charges.rows import ChargeSnapshot
from app.charges.states import LIVE, PENDING, PROCESSING, SUCCEEDED, TRANSITIONS, WITHOUT_MONEY, Status
from app.database import reading, transaction
from app.gateways.base import Answer, Outcome
from tests.factories import order, purchase
from tests.shops import Shop


def charge_in(shop: Shop, state: Status) -> ChargeSnapshot:
    """Return a charge in this state, reached by legal transitions."""
    bought = purchase(order())
    charge = protocol.claim(bought, shop.gateway, 3)
    if state is not PROCESSING:
        with transaction() as tx:
            assert rows.move(tx, charge, state)
    return charge._replace(status=state)


def status_of(charge: ChargeSnapshot) -> Status:
    with reading() as tx:
        return rows.get(tx, charge.id).status


def test_the_database_allows_exactly_the_legal_transitions(shop: Shop, app: Flask) -> None:
    for before, after in product(Status, Status):
        charge = charge_in(shop, before)
        legal = after == before or after in TRANSITIONS[before]
        ended = "NULL" if after in PENDING else "CURRENT_TIMESTAMP"
        sql = f"UPDATE charge SET status = '{after}', ended_at = {ended} WHERE id = :id"
        if legal:
            shop.execute(sql, id=charge.id)
        else:
            with pytest.raises(DatabaseError, match=f"a charge does not change (that way|from {before} to {after})"):
                shop.execute(sql, id=charge.id)
        assert status_of(charge) == (after if legal else before)


def test_the_transition_table_is_consistent() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert PENDING | {SUCCEEDED} == LIVE
    assert LIVE | WITHOUT_MONEY == set(Status)
    for ended in WITHOUT_MONEY | {SUCCEEDED}:
        assert not TRANSITIONS[ended], "an ended charge never changes"
    assert not any(PROCESSING in after for after in TRANSITIONS.values())


def test_a_move_writes_only_if_the_status_is_the_one_seen(shop: Shop, app: Flask) -> None:
    charge = charge_in(shop, PROCESSING)
    with transaction() as tx:
        assert rows.move(tx, charge, Status.IN_DOUBT, note="no answer")
    with transaction() as tx:
        assert not rows.move(tx, charge, Status.DECLINED), "the snapshot says processing, but the row is in doubt"
    assert status_of(charge) is Status.IN_DOUBT


def test_a_late_answer_changes_nothing(shop: Shop, app: Flask) -> None:
    for ended, late in product([Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.CANCELED], Outcome):
        charge = charge_in(shop, PROCESSING)
        protocol.record(charge, Answer(ended))
        assert protocol.record(charge, Answer(late)).status == ended.value
        assert status_of(charge) == ended.value


def test_doubt_never_overwrites_an_outcome(shop: Shop, app: Flask) -> None:
    charge = charge_in(shop, PROCESSING)
    protocol.record(charge, Answer(Outcome.SUCCEEDED))
    assert protocol.record_doubt(charge, "no answer").status is SUCCEEDED
    assert status_of(charge) is SUCCEEDED


def test_exactly_the_ended_charges_have_an_end_time(shop: Shop, app: Flask) -> None:
    for state in Status:
        charge = charge_in(shop, state)
        ended = shop.value("SELECT ended_at FROM charge WHERE id = :id", id=charge.id)
        assert (ended is None) == (state in PENDING)
