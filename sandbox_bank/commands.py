"""`flask --app wsgi sandbox …`: run the sandbox bank and print its statement."""

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

import click
from flask.cli import AppGroup
from sqlalchemy.exc import SQLAlchemyError

from app.gateways.base import StatementEntry
from app.money import format_money
from app.settings import SettingsError, read
from sandbox_bank import create_bank
from sandbox_bank.accounts import account_id, open_account
from sandbox_bank.server import serve
from sandbox_bank.settings import BankSettings
from sandbox_bank.statement import entry_json, statement
from sandbox_bank.storage import open_storage

sandbox = AppGroup("sandbox", help="Run the sandbox bank and print its statement.")


@sandbox.command("serve")
def serve_command() -> None:
    """Run the sandbox bank at SANDBOX_BANK_URL, with its database at SANDBOX_DATABASE_URL, until it is stopped.

    Exits with 0 after SIGTERM or Ctrl-C, or with 1 and one line if the port or the database is not available.
    """
    try:
        settings = BankSettings.from_environ()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    serve_bank(settings)


def serve_bank(settings: BankSettings) -> None:
    """Serve the bank in this process. Raises click.ClickException if the port or the database is not available."""
    try:
        account = account_id(settings.api_key)
        bank = create_bank(
            settings.database_url,
            hosts=[urlsplit(settings.url).hostname or ""],
            return_hosts={account: settings.shop_hosts},
        )
        # The books of an earlier version belong to this installation's shop, not to the first client.
        open_account(bank.config["BOOKS"], account)
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise _no_database(error) from None
    try:
        serve(bank, settings.url)
    except OSError as error:
        message = f"the sandbox bank can't listen at {settings.url}: {error.strerror}"
        raise click.ClickException(message) from None


@sandbox.command("statement")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: key, kind, amount (minor units), currency, at.")
def statement_command(as_json: bool) -> None:
    """Print every movement of money on all accounts of the sandbox bank, oldest first, from the bank's own database.

    The bank does not have to be running. Exits with 0, or with 1 and one line if the database can't be read.
    """
    print_statement = _print_json if as_json else _print_table
    try:
        engine = open_storage(read("sandbox_database_url"))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise _no_database(error) from None
    try:
        print_statement(statement(engine))
    except SQLAlchemyError as error:
        raise _no_database(error) from None


def _no_database(error: Exception) -> click.ClickException:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return click.ClickException(f"the sandbox bank's database (SANDBOX_DATABASE_URL) can't be read: {reason}")


def _print_json(entries: Iterable[StatementEntry]) -> None:
    """Print an array with one entry per line, so that people can read it and a million entries need no memory."""
    before = "[\n"
    for entry in entries:
        click.echo(before + json.dumps(entry_json(entry)), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def _print_table(entries: Iterable[StatementEntry]) -> None:
    count = 0
    for count, entry in enumerate(entries, 1):  # noqa: B007  (the last count is printed)
        amount = format_money(entry.amount, entry.currency)
        click.echo(f"{entry.at:%Y-%m-%d %H:%M:%S} UTC  {entry.kind:6}  {amount:>14}  {entry.key}")
    click.echo(f"{count} movement{'' if count == 1 else 's'} of money")
