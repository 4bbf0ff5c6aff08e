"""The states of a charge and the one table of legal transitions.

The compare-and-set in `rows.move` enforces the table in code. Triggers made from the same table enforce it in the
database, for every other writer.
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
    """Ended before money was taken, and the key can never take money."""


PROCESSING, REQUIRES_ACTION, IN_DOUBT, SUCCEEDED, DECLINED, CANCELED = Status

TRANSITIONS: dict[Status, frozenset[Status]] = {
    PROCESSING: frozenset({SUCCEEDED, DECLINED, CANCELED, REQUIRES_ACTION, IN_DOUBT}),
    IN_DOUBT: frozenset({SUCCEEDED, DECLINED, CANCELED, REQUIRES_ACTION}),
    REQUIRES_ACTION: frozenset({SUCCEEDED, DECLINED, CANCELED}),
    SUCCEEDED: frozenset(),
    DECLINED: frozenset(),
    CANCELED: frozenset(),
}

PENDING = frozenset({PROCESSING, REQUIRES_ACTION, IN_DOUBT})
"""The outcome is not known yet. The order stays frozen, and recovery is responsible for the charge."""

LIVE = PENDING | {SUCCEEDED}
"""States that hold the order and its stock. A unique index allows one live charge per order."""

WITHOUT_MONEY = frozenset({DECLINED, CANCELED})
"""Ended without money: the order becomes the shopper's basket again."""


class RefundStatus(StrEnum):
    """The state of a refund."""

    PROCESSING = "processing"
    """Claimed: its amount is promised on the charge."""
    IN_DOUBT = "in_doubt"
    """The gateway was asked and gave no definite answer. Recovery asks until it knows."""
    SUCCEEDED = "succeeded"
    """The gateway has taken the refund on."""
    DECLINED = "declined"
    """The gateway refused. Nothing was refunded."""
    WITHDRAWN = "withdrawn"
    """The merchant withdrew it before it was known to have been sent. Nothing was refunded."""
    FAILED = "failed"
    """It succeeded at first, and the money came back later, for example because the card was closed."""


REFUND_TRANSITIONS: dict[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.PROCESSING: frozenset(RefundStatus) - {RefundStatus.PROCESSING},
    RefundStatus.IN_DOUBT: frozenset(RefundStatus) - {RefundStatus.PROCESSING, RefundStatus.IN_DOUBT},
    RefundStatus.SUCCEEDED: frozenset({RefundStatus.FAILED}),
    RefundStatus.DECLINED: frozenset(),
    RefundStatus.WITHDRAWN: frozenset(),
    RefundStatus.FAILED: frozenset(),
}

REFUND_PENDING = frozenset({RefundStatus.PROCESSING, RefundStatus.IN_DOUBT})
"""The outcome of the refund is not known yet."""

WITHOUT_REFUND = frozenset({RefundStatus.DECLINED, RefundStatus.WITHDRAWN, RefundStatus.FAILED})
"""The customer does not have the money back: the promise on the charge is withdrawn."""


class DisputeStatus(StrEnum):
    """The state of a dispute (chargeback)."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


def sql_list(statuses: Iterable[StrEnum]) -> str:
    """Return "'a', 'b'" in a fixed order, for constraints and indexes."""
    return ", ".join(f"'{status}'" for status in sorted(statuses))
