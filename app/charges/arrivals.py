"""How often a form arrived for a charge that already exists, so that the receipt can say it."""

import structlog

from app import measures
from app.charges import rows
from app.charges.models import ARRIVALS_COUNTED
from app.charges.rows import ChargeSnapshot
from app.charges.tokens import Token
from app.database import Unreachable, reading, transaction

log = structlog.get_logger()


def record_repeat(token: Token) -> ChargeSnapshot | None:
    """Return the charge that already holds this token or its order, and count the arrival of the form.

    This is a short cut for late copies, before anything else in the form is checked. Only the claim decides.
    """
    with reading() as tx:
        charge = rows.find(tx, token)
    if charge is not None:
        count(token, charge)
    return charge


def count(token: Token, charge: ChargeSnapshot) -> None:
    """Count one more arrival, up to a small number, so that a flood causes no writes. Never fails the request."""
    same_form = token.key == charge.key
    measures.DUPLICATES.labels("same_form" if same_form else "other_form").inc()
    if (charge.arrivals if same_form else charge.other_arrivals) >= ARRIVALS_COUNTED:
        return
    try:
        with transaction() as tx:
            rows.count_arrival(tx, charge.id, same_form=same_form)
    except Unreachable:
        log.info("arrival_count_failed", receipt=charge.receipt_id)
