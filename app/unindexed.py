"""A status in a condition that must not use a partial index of the status."""

from typing import Any

from sqlalchemy import Column, ColumnElement, String, type_coerce


def unindexed(status: Column[Any]) -> ColumnElement[Any]:
    """Return the status as an expression that matches no partial index.

    The plain column would match the partial indexes of what is open. PostgreSQL takes these for almost empty, and
    prefers them to the row's id. But they also hold all that was open since the oldest snapshot, such as an audit's.
    """
    return type_coerce(status, String).concat("")
