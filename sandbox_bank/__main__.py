"""`python -m sandbox_bank`: serve the bank alone, without the shop and its secrets."""

import sys

import click

from app.settings import SettingsError
from sandbox_bank.commands import serve_bank
from sandbox_bank.settings import BankSettings


def main() -> None:
    """Serve the bank until SIGTERM or Ctrl-C. If that is not possible, print one line and exit with 1."""
    try:
        serve_bank(BankSettings.from_environ())
    except SettingsError as error:
        sys.exit(f"The sandbox bank can't start: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
