"""`python -m sandbox_bank`: serve the bank alone, without the shop and its secrets."""

import sys

import click

from app.settings import SettingsError
from sandbox_bank.commands import serve_bank
from sandbox_bank.settings import BankSettings


def main() -> None:
    """Serve the bank until SIGTERM or Ctrl-C. Exit with 1 and one line if that is not possible."""
    try:
        serve_bank(BankSettings.from_environ())
    except SettingsError as error:
        sys.exit(f"The sandbox bank can't start: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
