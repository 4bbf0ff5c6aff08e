"""The commands of `flask --app wsgi`: each a few lines that call a room."""

import json
import signal
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import click
from flask import Flask, current_app
from flask_migrate import Migrate
from sqlalchemy.exc import ProgrammingError

from app import money
from app.charges import audit, receipts, recovery, refunds
from app.charges.states import DECLINED, SUCCEEDED
from app.database import Unreachable, db
from app.gateways.base import NotSent, Unknown
from app.gateways.sandbox.commands import sandbox
from app.mail import outbox, post
from app.orders import currency, seed
from app.settings import SettingsError


class ShopCommand(click.Command):
    """A command on the shop's database: one line where that is away, not migrated, or priced in another currency."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            currency.refuse_other(current_app.config["SETTINGS"].shop_currency)
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        except (Unreachable, ProgrammingError) as error:
            why = "the database can't be reached, or was not migrated (flask --app wsgi db upgrade)"
            raise click.ClickException(f"{why}: {type(error.__cause__ or error).__name__}") from None


@click.command("seed", cls=ShopCommand)
def seed_command() -> None:
    """Fill an empty database with the catalogue. Safe to run again: a shop that has products is left as it is."""
    count = seed.seed(current_app.config["SETTINGS"].shop_currency)
    click.echo(f"{count} products put on the shelves." if count else "The shop has products already.")


@click.command("recover", cls=ShopCommand)
@click.option("--watch", is_flag=True, help="Go on until told to stop (SIGTERM or Ctrl-C); else one pass.")
def recover_command(watch: bool) -> None:
    """Find out what became of payments and refunds in doubt, and send receipts. Any number may run at once.

    One pass ends with 0, or with 1 where the database can't be reached; --watch waits until it can.
    """
    settings, gateways = current_app.config["SETTINGS"], current_app.extensions["gateways"]
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    send = post.sender(
        _letter, settings.shop_name, settings.mail_from, settings.smtp_url, Path(settings.mail_folder)
    )

    def one_pass() -> int:
        settled = recovery.run(gateways, settings.gateway_deadline, settings.action_window, stop.is_set)
        return settled + outbox.run(send, stop.is_set)

    if watch:
        recovery.watch(one_pass, stop)
        return
    try:
        click.echo(f"{one_pass()} looked after.")
    except Unreachable as error:
        raise click.ClickException(f"the database can't be reached: {error}") from None


def _letter(charge: int) -> post.Written:
    """The receipt of this charge, in words."""
    shop = current_app.config["SETTINGS"].shop_name
    receipt, link = receipts.whole(charge)
    template = current_app.jinja_env.get_template("mail/receipt.txt")
    text = template.render(receipt=receipt, link=link, shop_name=shop)
    subject = f"Your receipt {receipt.number} from {shop}"
    return post.Written(receipt.email or "", subject, receipt.ended_at or receipt.at, text)


@click.command("audit", cls=ShopCommand)
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object.")
def audit_command(as_json: bool) -> None:
    """Check the books, orders and stock against the bank's own statement.

    Ends with 0 when every invariant holds, 1 when one is broken, 2 when the statement or the database can't be read.
    """
    settings, gateways = current_app.config["SETTINGS"], current_app.extensions["gateways"]
    try:
        asked = audit.accounts() | {(gateways.current.name, gateways.current.account)}
        movements = chain.from_iterable(known.statement() for known in gateways if (known.name, known.account) in asked)
        report = audit.audit(movements, overdue=settings.gateway_deadline + audit.GRACE)
    except (NotSent, Unknown, Unreachable) as error:
        click.echo(f"Error: nothing was checked: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(json.dumps(audit.as_json(report)) if as_json else audit.as_text(report))
    raise SystemExit(1 if report.broken else 0)


@click.command("refund", cls=ShopCommand)
@click.argument("receipt", type=click.UUID)
@click.option("--amount", help="How much to give back, such as 12.50; all that is left where it is not given.")
def refund_command(receipt: UUID, amount: str | None) -> None:
    """Give money of a payment back. RECEIPT is the id in the receipt's link.

    Ends with 0 when the money went back, 3 when that is not known yet (recovery finds out; do not repeat it),
    1 when nothing was refunded.
    """
    charge = receipts.seen(receipt)
    gateway = charge and current_app.extensions["gateways"].of(charge.gateway, charge.account)
    if charge is None or gateway is None:
        raise click.ClickException("there is no such receipt" if charge is None else "its gateway has no settings here")
    try:
        wanted = money.minor(Decimal(amount), charge.currency) if amount else refunds.left(charge)
        status = refunds.refund(charge, wanted, gateway, current_app.config["SETTINGS"].gateway_deadline)
    except refunds.NotRefundable as error:
        left = money.format_money(error.left, charge.currency)
        raise click.ClickException(f"nothing was refunded: {left} can be") from None
    except (ValueError, InvalidOperation):
        raise click.ClickException(f"nothing was refunded: {amount} is no amount of {charge.currency}") from None
    except Unreachable as error:  # A claim or record whose commit was lost: "nothing was refunded" may be untrue.
        click.echo(f"Error: it is not known whether that was refunded; do not repeat it: {error}", err=True)
        raise SystemExit(3) from None
    click.echo(f"{money.format_money(wanted, charge.currency)}: {status}")
    raise SystemExit({SUCCEEDED: 0, DECLINED: 1}.get(status, 3))


def init_app(app: Flask) -> None:
    Migrate(app, db, directory="app/migrations", render_as_batch=True)
    app.cli.add_command(seed_command)
    app.cli.add_command(audit_command)
    app.cli.add_command(recover_command)
    app.cli.add_command(refund_command)
    app.cli.add_command(sandbox)
