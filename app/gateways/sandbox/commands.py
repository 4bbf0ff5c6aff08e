"""`flask sandbox …`: run the sandbox bank, and read its statement."""

import json
from collections.abc import Iterable

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy.exc import SQLAlchemyError

from app.gateways.base import Movement
from app.gateways.sandbox.bank import create_bank
from app.gateways.sandbox.bank.statement import movement_json, statement
from app.gateways.sandbox.bank.storage import open_storage
from app.gateways.sandbox.server import serve
from app.money import format_money
from app.settings import Settings

sandbox = AppGroup("sandbox", help="The sandbox bank: run it, read its statement.")


@sandbox.command("serve")
def serve_command() -> None:
    """Run the sandbox bank at SANDBOX_BANK_URL, its books at SANDBOX_DATABASE_URL, until it is told to stop.

    Ends with 0 after SIGTERM or Ctrl-C, with 1 and one line where the port or the books can't be had.
    """
    settings = _settings()
    try:
        bank = create_bank(settings.sandbox_database_url)
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise _no_books(error) from None
    try:
        serve(bank, settings.sandbox_bank_url)
    except OSError as error:
        why = f"the sandbox bank can't listen at {settings.sandbox_bank_url}: {error.strerror}"
        raise click.ClickException(why) from None


@sandbox.command("statement")
@click.option("--json", "as_json", is_flag=True, help="A JSON array of key, kind, amount (minor units), currency, at.")
def statement_command(as_json: bool) -> None:
    """Print every movement of money at the sandbox bank, oldest first, from its own books.

    The bank need not be running. Ends with 0, or with 1 and one line where the books can't be read.
    """
    show = _print_json if as_json else _print_table
    try:
        engine = open_storage(_settings().sandbox_database_url)
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise _no_books(error) from None
    try:
        show(statement(engine))
    except SQLAlchemyError as error:
        raise _no_books(error) from None


def _settings() -> Settings:
    settings: Settings = current_app.config["SETTINGS"]
    return settings


def _no_books(error: Exception) -> click.ClickException:
    why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return click.ClickException(f"the sandbox bank's books (SANDBOX_DATABASE_URL) can't be read: {why}")


def _print_json(movements: Iterable[Movement]) -> None:
    """One movement a line inside the array, so that people can read it too and a million need no memory."""
    before = "[\n"
    for movement in movements:
        click.echo(before + json.dumps(movement_json(movement)), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def _print_table(movements: Iterable[Movement]) -> None:
    count = 0
    for count, movement in enumerate(movements, 1):  # noqa: B007  (the last count is printed)
        amount = format_money(movement.amount, movement.currency)
        click.echo(f"{movement.at:%Y-%m-%d %H:%M:%S} UTC  {movement.kind:6}  {amount:>14}  {movement.key}")
    click.echo(f"{count} movement{'' if count == 1 else 's'} of money")
