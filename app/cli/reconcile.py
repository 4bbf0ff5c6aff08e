"""`flask reconcile`: what only the gateway has, and the repairs that a person chooses."""

from collections.abc import Callable
from datetime import datetime
from itertools import chain
from uuid import UUID

import click

from app import current
from app.charges import audit, receipts, reconcile
from app.charges.reconcile import Entry, Refused
from app.charges.states import RefundStatus
from app.cli.command import ComparingCommand
from app.database import Unreachable
from app.gateways.base import Gateway, NotSent, Unknown
from app.money import format_money

Found = dict[UUID, tuple[Gateway, Entry]]


@click.command("reconcile", cls=ComparingCommand)
@click.option("--adopt", type=click.UUID, multiple=True, metavar="KEY", help="Write this entry into the books.")
@click.option("--refund", type=click.UUID, multiple=True, metavar="KEY", help="Adopt this payment and refund it.")
@click.option(
    "--look",
    metavar="RECEIPT",
    help="Record this payment, its refunds and disputes as the gateway has them. If the gateway took another amount: "
    "refund it there first, then this ends the charge.",
)
@click.option("--close", metavar="RECEIPT", help="End a charge whose account is not configured, as without money.")
@click.option("--reason", help="With --close: how you know that it took no money. It is stored with the charge.")
def reconcile_command(
    adopt: tuple[UUID, ...], refund: tuple[UUID, ...], look: str | None, close: str | None, reason: str | None
) -> None:
    """List our payments and refunds that only the gateway has, for example after the database was restored.

    Without options, it changes nothing and exits with 0 if there are none, else with 1. With --adopt, --refund, --look
    or --close it exits with 0 if everything was done or had been done before, 1 if something was refused, 3 if the
    outcome of a refund is not known yet: recovery finds out, and the command may be repeated. 2 means that the gateway
    or the database can't be read: repeat the command.
    """
    if close is not None:
        _close(close, reason)
        return
    try:
        if look is not None:
            _look(look)
            return
        found = _found([*adopt, *refund])
        codes = [_adopt(key, found) for key in _charges_first(adopt, found)] + [_refund(key, found) for key in refund]
    except (NotSent, Unknown, Unreachable) as error:
        click.echo(f"Error: {error}; repeat the command", err=True)
        raise SystemExit(2) from None
    raise SystemExit(max(codes) if codes else _list(found))


def _found(chosen: list[UUID]) -> Found:
    settings = current.settings()
    asked, _ = audit.asked_and_absent(current.gateways())
    listed = chain.from_iterable(
        ((gateway, entry) for entry in reconcile.entries(gateway, settings.shop_id, chosen)) for gateway in asked
    )
    return {entry.key: (gateway, entry) for gateway, entry in listed}


def _charges_first(keys: tuple[UUID, ...], found: Found) -> list[UUID]:
    """A refund can only be adopted after its charge."""
    return sorted(keys, key=lambda key: key in found and found[key][1].kind == "refund")


def _list(found: Found) -> int:
    for gateway, entry in found.values():
        of = f" of {entry.charge_key}" if entry.kind == "refund" else ""
        own = f"  {entry.reference}" if entry.reference else ""
        click.echo(f"{_at(entry.at)}  {entry.kind:6}  {_amount(entry):>14}  {entry.key}{of}  {gateway.name}{own}")
    click.echo(f"Only at the gateway: {len(found)}" + ("" if not found else ". See --adopt and --refund."))
    return 1 if found else 0


def _adopt(key: UUID, found: Found) -> int:
    def do(gateway: Gateway, entry: Entry) -> int:
        new = reconcile.adopt(entry, gateway)
        click.echo(f"{key}: {entry.kind} of {_amount(entry)} {'adopted' if new else 'is in the books already'}")
        return 0

    return _do(key, found, do)


def _refund(key: UUID, found: Found) -> int:
    def do(gateway: Gateway, entry: Entry) -> int:
        others = [each for _, each in found.values()]
        status = reconcile.refund(entry, others, gateway, current.settings().gateway_deadline)
        click.echo(f"{key}: refund of {_amount(entry)}: {status}")
        return {RefundStatus.SUCCEEDED: 0, RefundStatus.IN_DOUBT: 3, RefundStatus.PROCESSING: 3}.get(status, 1)

    return _do(key, found, do)


def _do(key: UUID, found: Found, do: Callable[[Gateway, Entry], int]) -> int:
    try:
        if key not in found:
            raise Refused("no statement has this key")
        return do(*found[key])
    except Refused as refusal:
        click.echo(f"Error: {key}: nothing was done: {refusal}", err=True)
        return 1


def _look(receipt_id: str) -> None:
    charge = receipts.find_charge(receipt_id.lower())
    gateway = current.gateways().of(charge.gateway, charge.account) if charge else None
    if charge is None or gateway is None:
        what = "receipt" if charge is None else "gateway and account in the settings"
        raise click.ClickException(f"there is no such {what}")
    try:
        reconcile.catch_up(charge, gateway, current.settings().gateway_deadline)
    except Refused as refusal:
        raise click.ClickException(f"nothing was done: {refusal}") from None
    click.echo(f"{charge.receipt_id}: as the gateway has it now")


def _close(receipt_id: str, reason: str | None) -> None:
    charge = receipts.find_charge(receipt_id.lower())
    if charge is None:
        raise click.ClickException("there is no such receipt")
    if not reason or not reason.strip():
        raise click.ClickException("nothing was done: --reason is missing")
    try:
        reconcile.close(charge, current.gateways(), reason.strip())
    except Refused as refusal:
        raise click.ClickException(f"nothing was done: {refusal}") from None
    click.echo(f"{charge.receipt_id}: closed")


def _amount(entry: Entry) -> str:
    return format_money(entry.amount, entry.currency)


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
