"""The states and legal transitions of charges and refunds.

`protocol.record_within` checks the table in code, and `rows.move` writes only onto the state that was read. Triggers
made from the same tables refuse every other transition in the database, whoever writes.
"""

from collections.abc import Iterable
from enum import StrEnum


class Status(StrEnum):
    """The state of a charge. The values appear in the receipt's JSON."""

    PROCESSING = "processing"
    """Claimed. The request that claimed it may be asking the gateway."""
    REQUIRES_ACTION = "requires_action"
    """The gateway waits for the shopper, for example on its 3-D Secure page."""
    IN_DOUBT = "in_doubt"
    """The gateway was asked and gave no definite answer. Money may have moved. Recovery asks until it knows."""
    SUCCEEDED = "succeeded"
    """The money was taken."""
    DECLINED = "declined"
    """The gateway refused. No money was taken."""
    CANCELED = "canceled"
    """Ended before money was taken. The key can never take money, because it was never sent or is fenced."""


PROCESSING, REQUIRES_ACTION, IN_DOUBT, SUCCEEDED, DECLINED, CANCELED = Status  # in the order of definition

TRANSITIONS: dict[Status, frozenset[Status]] = {
    PROCESSING: frozenset({SUCCEEDED, DECLINED, CANCELED, REQUIRES_ACTION, IN_DOUBT}),
    IN_DOUBT: frozenset({SUCCEEDED, DECLINED, CANCELED, REQUIRES_ACTION}),
    REQUIRES_ACTION: frozenset({SUCCEEDED, DECLINED, CANCELED}),
    SUCCEEDED: frozenset(),
    DECLINED: frozenset(),
    CANCELED: frozenset(),
}

PENDING = frozenset({PROCESSING, REQUIRES_ACTION, IN_DOUBT})
"""Not finished: there is no final outcome yet. The order stays frozen, and recovery is responsible for the charge."""

LIVE = PENDING | {SUCCEEDED}
"""States that hold the order and its stock. A unique index allows one live charge per order."""

WITHOUT_MONEY = frozenset({DECLINED, CANCELED})
"""Ended without money: the order becomes the shopper's basket again."""


class RefundStatus(StrEnum):
    """The state of a refund."""

    PROCESSING = "processing"
    """Claimed: its amount counts against what can be refunded of the charge."""
    IN_DOUBT = "in_doubt"
    """The gateway was asked and gave no definite answer. Recovery asks until it knows."""
    SUCCEEDED = "succeeded"
    """The gateway has accepted the refund."""
    DECLINED = "declined"
    """The gateway refused. Nothing was refunded."""
    WITHDRAWN = "withdrawn"
    """The merchant withdrew it before it was known to have been sent. Nothing was refunded."""
    FAILED = "failed"
    """The gateway accepted it, but the money came back to the merchant, for example because the card was closed."""


REFUND_TRANSITIONS: dict[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.PROCESSING: frozenset(RefundStatus) - {RefundStatus.PROCESSING},
    RefundStatus.IN_DOUBT: frozenset(RefundStatus) - {RefundStatus.PROCESSING, RefundStatus.IN_DOUBT},
    RefundStatus.SUCCEEDED: frozenset({RefundStatus.FAILED}),
    RefundStatus.DECLINED: frozenset(),
    RefundStatus.WITHDRAWN: frozenset(),
    RefundStatus.FAILED: frozenset(),
}

REFUND_PENDING = frozenset({RefundStatus.PROCESSING, RefundStatus.IN_DOUBT})
"""The refund has no final outcome yet."""

WITHOUT_REFUND = frozenset({RefundStatus.DECLINED, RefundStatus.WITHDRAWN, RefundStatus.FAILED})
"""The shopper did not get the money back: the amount can be refunded again."""


class DisputeStatus(StrEnum):
    """The state of a dispute (chargeback)."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


def sql_list(statuses: Iterable[StrEnum]) -> str:
    """Return "'a', 'b'" in a fixed order, for constraints and indexes."""
    return ", ".join(f"'{status}'" for status in sorted(statuses))
