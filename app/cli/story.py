"""`flask story`: everything that is known of one payment, on one timeline."""

import json

import click

from app.charges import story
from app.cli.command import ShopCommand


@click.command("story", cls=ShopCommand)
@click.argument("name", metavar="RECEIPT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def story_command(name: str, as_json: bool) -> None:
    """Print what happened to one payment.

    RECEIPT is the id in the receipt's address, the payment number on the page, or a key of charge or refund.
    """
    found = story.tell(name.strip().lower())
    if found is None:
        raise click.ClickException("there is no such receipt or key")
    click.echo(json.dumps(story.as_json(found)) if as_json else story.as_text(found))
