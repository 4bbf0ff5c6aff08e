"""What a person must look at: charges and refunds with an alarm, and receipt e-mails that were given up."""

from sqlalchemy import text

from app.charges.states import PENDING, REFUND_PENDING, sql_list
from app.database import reading

ENDED = f"""
    SELECT 'refund ' || id || ' ' || status || ': ' || attention FROM refund
    WHERE attention IS NOT NULL AND status NOT IN ({sql_list(REFUND_PENDING)})
    UNION ALL
    SELECT 'e-mail of charge ' || charge_id || ' given up: ' || coalesce(note, '') FROM outbox_email
    WHERE gave_up_at IS NOT NULL
"""
"""One line each. Those that are still open are in the audit's list of open charges and refunds."""

# The conditions are those of partial indexes, because the numbers are read at each scrape.
NUMBERS = text(f"""
    SELECT 'charge', status, count(*) FROM charge
    WHERE attention IS NOT NULL AND status IN ({sql_list(PENDING)}) GROUP BY status
    UNION ALL
    SELECT 'refund', status, count(*) FROM refund WHERE attention IS NOT NULL GROUP BY status
    UNION ALL
    SELECT 'email', 'given_up', count(*) FROM outbox_email WHERE gave_up_at IS NOT NULL HAVING count(*) > 0
""")


def numbers() -> list[tuple[str, str, int]]:
    """Return (kind, status, how many) of what a person must look at. Raises Unreachable."""
    with reading() as tx:
        return [(kind, status, number) for kind, status, number in tx.execute(NUMBERS)]
