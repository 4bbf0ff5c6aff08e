"""`flask lab`: the matrix in the terminal, and the attacks against a checkout of one's own."""

import json
import sys
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import click

from lab import against, runner
from lab.attacks import ATTACKS
from lab.defences import DEFENCES, PAYONCE

COLOURS = {"green": "green", "amber": "yellow", "red": "red"}
WORST = ("green", "amber", "red")
MEANT = 1
"""How often each attack's shopper means to pay."""


@click.command("lab")
@click.option("--defence", type=click.IntRange(1, len(DEFENCES)), help="Only this row of the matrix.")
@click.option("--attack", type=click.IntRange(1, len(ATTACKS)), help="Only this column.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="How often to play it.")
@click.option("--json", "as_json", is_flag=True, help="An array of defence, attack, charges, expected, verdict.")
@click.option("--against", "url", help="Attack the checkout at this address instead; it must be on this machine.")
@click.option("--form", default="/checkout", show_default=True, help="With --against: where its form is shown.")
@click.option("--token", default="checkout_token", show_default=True, help="… the name of its token field.")
@click.option("--start", default="", help="… a page whose form is sent first, such as a product's “add to basket”.")
@click.option("--field", "fields", multiple=True, help="… name=value to fill in; {n} becomes the attack's number.")
def lab(defence: int | None, attack: int | None, rounds: int, as_json: bool, url: str | None,
        form: str, token: str, start: str, fields: tuple[str, ...]) -> None:  # fmt: skip
    """Let every defence meet every attack, and print how often the bank took the money where once was meant.

    Real requests between real processes, databases that are thrown away, nothing of the shop's. Ends with 1
    where PayOnce (defence 7) was not green, or where the checkout at --against gave more than one receipt.
    """
    if url:
        _against(against.Target(url, form, token, start, _pairs(fields)), as_json)
        return
    defences = [defence] if defence else [one.number for one in DEFENCES]
    attacks = [attack] if attack else [one.number for one in ATTACKS]
    results = _play(defences, attacks, rounds)
    click.echo(_json(results) if as_json else _table(results, defences, attacks))
    if any(cell["defence"] == PAYONCE.number and cell["verdict"] != "green" for cell in results):
        raise SystemExit(1)


def _play(defences: list[int], attacks: list[int], rounds: int) -> list[dict[str, Any]]:
    """Each result as it comes, counted on stderr where somebody watches."""
    count, results, watched = len(defences) * len(attacks) * rounds, [], sys.stderr.isatty()
    with runner.playing(defences, attacks, rounds) as process:
        assert process.stdout is not None  # Asked for as a pipe.
        for line in process.stdout:
            results.append(json.loads(line))
            if watched:
                click.echo(f"\r{len(results)} of {count} scenes played", nl=len(results) == count, err=True)
    if process.returncode:
        raise SystemExit(2)
    return results


def _json(results: list[dict[str, Any]]) -> str:
    return json.dumps(
        [
            {
                "defence": cell["defence"], "attack": cell["attack"], "charges": cell["charges"], "expected": MEANT,
                "verdict": cell["verdict"], "told": cell["told"], "round": cell["round"],
                "defence_name": DEFENCES[cell["defence"] - 1].name, "attack_name": ATTACKS[cell["attack"] - 1].name,
            }
            for cell in results
        ],
        indent=1,
    )  # fmt: skip


def _table(results: list[dict[str, Any]], defences: list[int], attacks: list[int]) -> str:
    """A line for each defence; of several rounds, the worst."""
    cells = defaultdict(list)
    for cell in results:
        cells[cell["defence"], cell["attack"]].append(cell)
    names = {number: f"{number} {DEFENCES[number - 1].name}" for number in defences}
    width = max(map(len, names.values()))
    lines = [" " * width + "".join(f"  {f'({attack})':>9}" for attack in attacks)]
    for number, name in names.items():
        lines.append(name.ljust(width) + "".join(f"  {_cell(cells[number, attack])}" for attack in attacks))
    lines += ["", *(f"({attack}) {ATTACKS[attack - 1].name}: {ATTACKS[attack - 1].words}" for attack in attacks), ""]
    lines.append("How often the bank took the money; once is meant. Green: and the shopper knows. Amber: they don't.")
    return "\n".join(lines)


def _cell(played: list[dict[str, Any]]) -> str:
    worst = max(played, key=lambda cell: (WORST.index(cell["verdict"]), cell["charges"]))
    words = f"{worst['charges']}× {worst['verdict']}"
    return click.style(f"{words:>9}", fg=COLOURS[worst["verdict"]])


def _pairs(fields: tuple[str, ...]) -> dict[str, str]:
    if odd := [text for text in fields if "=" not in text]:
        raise click.BadParameter(f"{odd[0]} is not name=value")
    return dict(text.split("=", 1) for text in fields)


def _against(target: against.Target, as_json: bool) -> None:
    try:
        reports = against.attack(target)
    except (against.NotLoopback, against.NoSuchForm) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([{**asdict(report), "verdict": report.verdict} for report in reports], indent=1))
    else:
        click.echo("\n".join(map(_line, reports)))
        click.echo("\nOnly the gateway's statement tells how often money moved: compare it with the receipts.")
    if any(report.verdict == "red" for report in reports):
        raise SystemExit(1)


def _line(report: against.Report) -> str:
    verdict = click.style(f"{report.verdict:<5}", fg=COLOURS[report.verdict])
    return (
        f"{report.attack:<16} {verdict}  {report.requests} requests, {report.redirects} redirects, "
        f"{report.receipts} receipts, {report.errors} server errors"
    )
