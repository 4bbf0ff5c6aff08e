"""What all commands of the shop share."""

from typing import Any

import click
from sqlalchemy.exc import ProgrammingError

from app import current
from app.database import Unreachable
from app.orders import currency
from app.settings import SettingsError


class ShopCommand(click.Command):
    """A command that needs the shop's database. If it can't use it, the command ends with one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            currency.refuse_other(current.settings().shop_currency)
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        except (Unreachable, ProgrammingError) as error:
            why = "the database can't be reached, or was not migrated (flask --app wsgi db upgrade)"
            raise click.ClickException(f"{why}: {type(error.__cause__ or error).__name__}") from None
