"""What an earlier version relies on in the schema, and whether a migration has taken some of it away."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, create_engine, inspect


@dataclass
class Structure:
    """Tables → columns, and tables → rules: constraints and unique indexes with the columns or text that they have."""

    columns: dict[str, dict[str, Any]]
    rules: dict[str, dict[str, str]]


def read(url: str) -> Structure:
    """Read the structure of a database."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = read_from(connection)
    engine.dispose()
    return found


def read_from(connection: Connection) -> Structure:
    """Read the structure, as the transaction of this connection sees it."""
    inspector = inspect(connection)
    tables = [name for name in inspector.get_table_names() if name != "alembic_version"]
    columns = {table: {column["name"]: column for column in inspector.get_columns(table)} for table in tables}
    rules = {table: _rules(inspector, table) for table in tables}
    return Structure(columns, rules)


def _rules(inspector: Any, table: str) -> dict[str, str]:
    found = {str(each["name"]): each["sqltext"] for each in inspector.get_check_constraints(table)}
    found |= {str(each["name"]): str(each["column_names"]) for each in inspector.get_unique_constraints(table)}
    found |= {str(each["name"]): str(each["constrained_columns"]) for each in inspector.get_foreign_keys(table)}
    for index in inspector.get_indexes(table):
        if index["unique"]:
            found[str(index["name"])] = str(index["column_names"])
    return found


def taken_away(before: Structure, after: Structure) -> list[str]:
    """Return what the version before can't do any more: what is gone, renamed, or allows less."""
    found = [f"table {table} is gone" for table in before.columns.keys() - after.columns.keys()]
    for table in before.columns.keys() & after.columns.keys():
        found += _columns_taken_away(table, before.columns[table], after.columns[table])
        new = after.columns[table].keys() - before.columns[table].keys()
        for name, rule in after.rules[table].items():
            if not _allows_as_much(before.rules[table].get(name), rule, new):
                found.append(f"rule {name} on {table} allows less")
    return sorted(found)


def _columns_taken_away(table: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = [f"column {table}.{name} is gone" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        if str(before[name]["type"]) != str(after[name]["type"]):
            found.append(f"column {table}.{name} has another type")
        if before[name]["nullable"] and not after[name]["nullable"]:
            found.append(f"column {table}.{name} must have a value now")
        if before[name]["default"] is not None and after[name]["default"] is None:
            found.append(f"column {table}.{name} has lost its default")
    for name in after.keys() - before.keys():
        if not after[name]["nullable"] and after[name]["default"] is None:
            found.append(f"column {table}.{name} is new and must have a value")
    return found


def _allows_as_much(before: str | None, after: str, new_columns: set[str]) -> bool:
    """Return whether a rule refuses no row that it did not refuse before.

    A rule on new columns may come with them. A rule that has changed must allow all the values that it named before.
    """
    if before is None:
        return any(re.search(rf"\b{column}\b", after) for column in new_columns)
    values = re.compile(r"'([^']*)'")
    return before == after or (
        bool(values.findall(before)) and set(values.findall(before)) < set(values.findall(after))
    )
