"""The states of a charge and the one table of legal transitions.

The compare-and-set in `move` enforces it in the code; triggers made from the same table enforce it in the
database, for whoever comes by another way.
"""

from enum import StrEnum


class Status(StrEnum):
    """Where a charge stands. The names are those of the receipt's JSON."""

    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    CANCELED = "canceled"


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
"""Not known yet how it ends: the shopper must wait, recovery looks after it."""

LIVE = PENDING | {SUCCEEDED}
"""Holds its order and its stock: there is one of these an order at most."""

WITHOUT_MONEY = frozenset({DECLINED, CANCELED})
"""Ended, and nothing was taken: the order opens again."""


def sql_list(statuses: frozenset[Status]) -> str:
    """For constraints and indexes: 'a', 'b', in a fixed order."""
    return ", ".join(f"'{status}'" for status in sorted(statuses))
