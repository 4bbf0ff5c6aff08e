"""The commands of `flask --app wsgi`: each a few lines that call the core."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from threading import Event
from time import monotonic
from typing import NoReturn
from uuid import UUID

import click
from flask import Flask, current_app
from flask_migrate import Migrate

from app import current, money
from app.charges import audit, progress, purge, receipts, recovery, refund_rows, refunds, report, same_order
from app.charges.rows import ChargeSnapshot
from app.charges.states import REFUND_PENDING, RefundStatus
from app.charges.tokens import new_key
from app.cli.command import ComparingCommand, ShopCommand
from app.cli.reconcile import reconcile_command
from app.cli.story import story_command
from app.database import Unreachable, db
from app.gateways.base import Gateway, NotSent, Unknown
from app.mail import outbox, sending
from app.mail.pace import Pace
from app.orders import seed


@click.command("seed", cls=ShopCommand)
def seed_command() -> None:
    """Insert the demo catalogue into an empty database. A shop that has products stays as it is."""
    count = seed.seed(current.settings().shop_currency)
    click.echo(f"Inserted {count} products." if count else "The shop has products already.")


@click.command("recover", cls=ShopCommand)
@click.option("--watch", is_flag=True, help="Run until SIGTERM or Ctrl-C instead of making one pass.")
def recover_command(watch: bool) -> None:
    """Find out what became of payments and refunds in doubt, and send receipt e-mails. Any number may run at once.

    One pass exits with 0, or with 1 if the database can't be reached. --watch waits until it can be reached.
    """
    settings, gateways = current.settings(), current.gateways()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    send = sending.sender(
        _receipt_email, Pace(current.limiter()),
        settings.shop_name, settings.mail_from, settings.smtp_url, Path(settings.mail_folder),
    )  # fmt: skip

    seconds, window = settings.gateway_deadline, settings.action_window
    passes: dict[str, Callable[[], int]] = {
        "charges": lambda: recovery.run_charges(gateways, seconds, window, stop.is_set),
        "refunds": lambda: recovery.run_refunds(gateways, seconds, stop.is_set),
        "emails": lambda: outbox.run(send, stop.is_set),
        "pruning": same_order.prune,
        "baskets": purge.run,
    }
    noted = {name: _noted(name, one_pass) for name, one_pass in passes.items()}
    if watch:
        recovery.watch({name: _in_context(one_pass) for name, one_pass in noted.items()}, stop)
        return
    try:
        done = sum(noted[name]() for name in ("charges", "refunds", "emails"))
        click.echo(f"Processed {done} items. {progress.in_words(progress.left())}")
    except Unreachable as error:
        raise click.ClickException(f"the database can't be reached: {error}") from None


def _noted(name: str, one_pass: Callable[[], int]) -> Callable[[], int]:
    """Return a pass that also stores and logs what it did."""
    progressed = progress.Progress(name)

    def run() -> int:
        done = one_pass()
        progressed.passed(done)
        return done

    return run


def _in_context(one_pass: Callable[[], int]) -> Callable[[], int]:
    """Return the pass with an application context of its own, for a thread of its own."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]

    def run() -> int:
        with app.app_context():
            return one_pass()

    return run


def _receipt_email(charge_id: int) -> sending.Content:
    """Return the content of this charge's receipt e-mail: what is true now, refunds included."""
    shop = current.settings().shop_name
    receipt, link = receipts.of_charge(charge_id)
    template = current_app.jinja_env.get_template("mail/receipt.txt")
    text = template.render(receipt=receipt, link=link, shop_name=shop)
    subject = f"Your receipt {receipt.reference} from {shop}"
    return sending.Content(receipt.email or "", subject, text)


@click.command("audit", cls=ComparingCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit_command(as_json: bool) -> None:
    """Compare the books, orders and stock with the gateway's own statement.

    Exits with 0 if every invariant holds, 1 if one is broken, 2 if the statement or the database can't be read.
    """
    settings, gateways = current.settings(), current.gateways()
    overdue = settings.gateway_deadline + audit.GRACE
    try:
        asked, absent = audit.asked_and_absent(gateways)
        entries = chain.from_iterable(gateway.statement() for gateway in asked)
        started = monotonic()
        found = audit.audit(entries, overdue, settings.shop_id, absent)
    except (NotSent, Unknown, Unreachable) as error:
        click.echo(f"Error: nothing was checked: {error}", err=True)
        raise SystemExit(2) from None
    progress.note_audit(monotonic() - started, len(found.broken))
    click.echo(json.dumps(report.as_json(found)) if as_json else report.as_text(found))
    raise SystemExit(1 if found.broken else 0)


@click.command("refund", cls=ShopCommand)
@click.argument("receipt_id", metavar="RECEIPT")
@click.option("--amount", help="How much to refund, such as 12.50. Without it, all that is left.")
@click.option("--key", type=click.UUID, help="Repeat the refund that printed this key, instead of making a new one.")
@click.option("--again", is_flag=True, help="Make another refund, although one of the same amount is still open.")
@click.option("--withdraw", is_flag=True, help="Withdraw the open refund with the --key.")
def refund_command(receipt_id: str, amount: str | None, key: UUID | None, again: bool, withdraw: bool) -> None:
    """Refund a payment. RECEIPT is the id in the receipt's address.

    Prints the refund's key first. Exits with 0 if the money was refunded, 1 if nothing was refunded, 3 if that is not
    known yet: recovery finds out. Repeat the command only with --key.

    With --withdraw, exits with 0 if the refund is withdrawn, 1 if it had ended before, 3 if recovery will withdraw it
    when nothing that was sent can arrive any more.
    """
    charge = receipts.find_charge(receipt_id.lower())
    if charge is None:
        raise click.ClickException("there is no such receipt")
    gateway = current.gateways().of(charge.gateway, charge.account)
    if gateway is None:
        raise click.ClickException("the gateway and account of this payment are not configured")
    if withdraw:
        _withdraw(charge, key, gateway)
    wanted = _minor_units(amount, charge.currency) if amount is not None else refunds.left(charge)
    key = key or new_key()
    click.echo(f"key: {key}", err=True)
    try:
        with _interruptible():
            status = refunds.refund(charge, wanted, gateway, current.settings().gateway_deadline, key, again=again)
    except refunds.NotRefundable as error:
        left = money.format_money(error.left, charge.currency)
        raise click.ClickException(f"nothing was refunded: {left} can be") from None
    except refunds.AlreadyOpen:
        why = "a refund of the same amount is still open; repeat it with its --key, or use --again for another one"
        raise click.ClickException(f"nothing was refunded: {why}") from None
    except refunds.KeyTaken:
        raise click.ClickException("nothing was refunded: this key belongs to another refund or amount") from None
    except (Unreachable, KeyboardInterrupt) as error:
        # The claim may be committed and the gateway may have been asked: "nothing was refunded" could be untrue.
        reason = str(error) or "interrupted"
        click.echo(f"Error: it is not known whether that was refunded; repeat it only with --key: {reason}", err=True)
        raise SystemExit(3) from None
    click.echo(f"{money.format_money(wanted, charge.currency)}: {status}")
    raise SystemExit({RefundStatus.SUCCEEDED: 0, RefundStatus.DECLINED: 1}.get(status, 3))


def _withdraw(charge: ChargeSnapshot, key: UUID | None, gateway: Gateway) -> NoReturn:
    if key is None:
        raise click.ClickException("--withdraw needs the --key that the refund printed")
    try:
        status = refunds.withdraw(charge, key, gateway, current.settings().gateway_deadline)
    except refunds.KeyTaken:
        raise click.ClickException("this payment has no refund with this key to withdraw") from None
    if status in REFUND_PENDING:
        minutes = int(refund_rows.ARRIVES_WITHIN / 60)
        click.echo(f"It is not sent any more. If it has not arrived in {minutes} minutes, recovery withdraws it.")
        raise SystemExit(3)
    click.echo(f"The refund is {status}.")
    raise SystemExit(0 if status is RefundStatus.WITHDRAWN else 1)


def _minor_units(amount: str, currency: str) -> int:
    try:
        return money.minor(Decimal(amount), currency)
    except (ValueError, InvalidOperation):
        raise click.ClickException(f"nothing was refunded: '{amount}' is not an amount of {currency}") from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block like Ctrl-C, so that the command can say what is known."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def init_app(app: Flask) -> None:
    """Add the commands to the app."""
    Migrate(app, db, directory="app/migrations", render_as_batch=True)
    for command in (
        seed_command, audit_command, recover_command, refund_command, reconcile_command, story_command,
    ):  # fmt: skip
        app.cli.add_command(command)
