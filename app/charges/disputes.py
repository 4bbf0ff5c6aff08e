"""Disputes (chargebacks): a bank takes a payment back from the shop, and gives it back if the shop wins."""

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.engine import Connection

from app.charges.models import Dispute, DisputeStatusType
from app.charges.rows import ChargeSnapshot
from app.charges.states import DisputeStatus
from app.database import InsertOnce, UtcDateTime, from_now, table
from app.gateways.base import GatewayDispute
from app.ledger import book

disputes = table(Dispute)

INSERT = InsertOnce(
    disputes,
    {name: bindparam(name) for name in ("charge_id", "gateway_reference", "amount", "reason")}
    | {"status": DisputeStatus.OPEN, "fee": 0, "created_at": from_now(0)},
)
LOCK = (
    select(disputes.c.id, disputes.c.amount)
    .where(disputes.c.charge_id == bindparam("charge_id"), disputes.c.gateway_reference == bindparam("reference"))
    .with_for_update()
)
STATUS = bindparam("to_status", type_=DisputeStatusType)
UPDATE = (
    update(disputes)
    .where(disputes.c.id == bindparam("dispute_id"))
    .values(
        # Only an open dispute changes: an answer that was asked for earlier must not open it again.
        status=case((disputes.c.status == DisputeStatus.OPEN, STATUS), else_=disputes.c.status),
        ended_at=case(
            (disputes.c.status != DisputeStatus.OPEN, disputes.c.ended_at),
            (STATUS != DisputeStatus.OPEN, from_now(0)),
            else_=None,
        ),
        fee=case((disputes.c.fee > bindparam("to_fee"), disputes.c.fee), else_=bindparam("to_fee")),
        evidence_due_at=func.coalesce(bindparam("due_at", type_=UtcDateTime()), disputes.c.evidence_due_at),
    )
)


def record(connection: Connection, charge: ChargeSnapshot, found: GatewayDispute) -> None:
    """Record a dispute as the gateway sees it now, in the caller's transaction. Idempotent.

    Money is posted once for each movement, whatever order the gateway's answers come in.
    """
    INSERT.execute(connection, {
        "charge_id": charge.id, "gateway_reference": found.gateway_reference, "amount": found.amount,
        "reason": found.reason and found.reason[:60],
    })  # fmt: skip
    of = {"charge_id": charge.id, "reference": found.gateway_reference}
    dispute_id, amount = connection.execute(LOCK, of).one()
    _post(connection, charge, found, dispute_id, amount)
    status = DisputeStatus(found.status)
    values = {"dispute_id": dispute_id, "to_status": status, "to_fee": found.fee, "due_at": found.evidence_due_at}
    connection.execute(UPDATE, values)


def _post(connection: Connection, charge: ChargeSnapshot, found: GatewayDispute, dispute_id: int, amount: int) -> None:
    moved = [
        (found.withdrawn, book.Kind.DISPUTE, book.DISPUTES, -amount),
        (found.reinstated, book.Kind.DISPUTE_REVERSED, book.DISPUTES, amount),
        (found.fee > 0, book.Kind.FEE, book.FEES, -found.fee),
    ]
    posted = book.kinds_of_dispute(connection, dispute_id)
    for happened, kind, account, change in moved:
        if happened and kind not in posted:
            book.post(connection, charge.id, change, charge.currency, kind=kind, account=account, dispute_id=dispute_id)
