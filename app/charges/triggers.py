"""Triggers that enforce the state tables in the database, for every writer."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import DDL, event

from app.charges.models import Charge, Refund
from app.charges.states import REFUND_TRANSITIONS, TRANSITIONS, sql_list
from app.database import table


def _legal(transitions: Mapping[Any, frozenset[Any]]) -> str:
    return " OR ".join(
        f"OLD.status = '{before}' AND NEW.status IN ({sql_list(after)})"
        for before, after in transitions.items()
        if after
    )


def _changed(columns: Sequence[str]) -> str:
    return " OR ".join(f"(NEW.{column} <> OLD.{column})" for column in columns)


BUYER_FORGOTTEN = "OLD.ended_at IS NOT NULL AND NEW.buyer_id = (SELECT buyer_id FROM orders WHERE id = NEW.order_id)"
"""When the buyer of a charge may change: to the present buyer of its order, after the charge has ended."""
CHARGE_FIXED = (
    _changed(("key", "receipt_id", "order_id", "amount", "currency"))
    + f" OR (NEW.buyer_id <> OLD.buyer_id AND NOT ({BUYER_FORGOTTEN}))"
)
REFUND_FIXED = _changed(("key", "charge_id", "amount", "stray"))


def postgresql(name: str, fixed: str, legal: str) -> str:
    """Return the function and trigger for one table."""
    return f"""
CREATE FUNCTION guard_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'a {name} is never deleted' USING ERRCODE = 'check_violation';
  END IF;
  IF {fixed} THEN
    RAISE EXCEPTION 'the claim of a {name} does not change' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT ({legal}) THEN
    RAISE EXCEPTION 'a {name} does not change from %% to %%', OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER {name}_guard BEFORE UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION guard_{name}()
"""


def sqlite(name: str, fixed: str, legal: str) -> tuple[str, str, str]:
    """Return the triggers for one table."""
    return (
        f"CREATE TRIGGER {name}_refuse_delete BEFORE DELETE ON {name} "
        f"BEGIN SELECT RAISE(ABORT, 'a {name} is never deleted'); END",
        f"CREATE TRIGGER {name}_refuse_change BEFORE UPDATE ON {name} WHEN {fixed} "
        f"BEGIN SELECT RAISE(ABORT, 'the claim of a {name} does not change'); END",
        f"CREATE TRIGGER {name}_refuse_transition BEFORE UPDATE ON {name} "
        f"WHEN NEW.status <> OLD.status AND NOT ({legal}) "
        f"BEGIN SELECT RAISE(ABORT, 'a {name} does not change that way'); END",
    )


GUARDS = (
    (table(Charge), CHARGE_FIXED, _legal(TRANSITIONS)),
    (table(Refund), REFUND_FIXED, _legal(REFUND_TRANSITIONS)),
)
for _table, _fixed, _legal_changes in GUARDS:
    _ddl = DDL(postgresql(_table.name, _fixed, _legal_changes))
    event.listen(_table, "after_create", _ddl.execute_if(dialect="postgresql"))
    for _statement in sqlite(_table.name, _fixed, _legal_changes):
        event.listen(_table, "after_create", DDL(_statement).execute_if(dialect="sqlite"))
