"""What all commands of the shop share."""

from typing import Any

import click
from sqlalchemy.exc import ProgrammingError

from app import current
from app.charges import evidence
from app.database import Unreachable
from app.orders import currency
from app.settings import SettingsError


class ShopCommand(click.Command):
    """A command that needs the shop's database. If it can't use it, the command ends with one line.

    `refusal` gives the exit code then.
    """

    refusal: type[click.ClickException] = click.ClickException

    def invoke(self, ctx: click.Context) -> Any:
        try:
            currency.refuse_other(current.settings().shop_currency)
            with evidence.kept("command"):
                return super().invoke(ctx)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        except Unreachable as error:
            raise self.refusal(f"the database can't be used: {error}") from None
        except ProgrammingError as error:
            why = "the database was not migrated (flask --app wsgi db upgrade)"
            raise self.refusal(f"{why}: {type(error.orig).__name__}") from None


class Unreadable(click.ClickException):
    """Nothing could be compared."""

    exit_code = 2


class ComparingCommand(ShopCommand):
    """A command that compares the books with something: exit code 1 says that they differ, 2 that nobody knows."""

    refusal = Unreadable
