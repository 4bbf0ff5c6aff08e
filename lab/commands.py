"""`flask lab`: the matrix in the terminal, and attacks on any other checkout on this machine."""

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
BEST_TO_WORST = ("green", "amber", "red")
EXPECTED_CHARGES = 1
"""In every attack, the shopper wants to pay once."""


@click.command("lab")
@click.option("--defence", type=click.IntRange(1, len(DEFENCES)), help="Play only this row of the matrix.")
@click.option("--attack", type=click.IntRange(1, len(ATTACKS)), help="Play only this column.")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Number of times to play each scene."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an array of objects with defence, attack, charges, expected and verdict.",
)
@click.option("--against", "url", help="Attack the checkout at this URL instead. It must be on this machine.")
@click.option("--form", default="/checkout", show_default=True, help="With --against: the path of the payment form.")
@click.option(
    "--token", default="checkout_token", show_default=True, help="With --against: the name of the form's token field."
)
@click.option(
    "--start",
    default="",
    help="With --against: a page whose first form is sent before, such as a product's “add to basket”.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    help="With --against: name=value to fill in. {n} is replaced by the attack's number.",
)
def lab(defence: int | None, attack: int | None, rounds: int, as_json: bool, url: str | None,
        form: str, token: str, start: str, fields: tuple[str, ...]) -> None:  # fmt: skip
    """Play every attack against every defence, and print how often the bank took the money. Once is correct.

    The requests and processes are real, and the databases are temporary. The shop's own data is not touched. Exits
    with 1 if PayOnce (defence 7) is not green, or if the checkout at --against gave more than one receipt.
    """
    if url:
        _against(against.Target(url, form, token, start, _pairs(fields)), as_json)
        return
    defences = [defence] if defence else [each.number for each in DEFENCES]
    attacks = [attack] if attack else [each.number for each in ATTACKS]
    results = _play(defences, attacks, rounds)
    click.echo(_json(results) if as_json else _table(results, defences, attacks))
    if any(cell["defence"] == PAYONCE.number and cell["verdict"] != "green" for cell in results):
        raise SystemExit(1)


def _play(defences: list[int], attacks: list[int], rounds: int) -> list[dict[str, Any]]:
    """Return all results. Show the progress on stderr if it is a terminal."""
    count, results, is_terminal = len(defences) * len(attacks) * rounds, [], sys.stderr.isatty()
    with runner.playing(defences, attacks, rounds) as process:
        assert process.stdout is not None  # It is a pipe.
        for line in process.stdout:
            results.append(json.loads(line))
            if is_terminal:
                click.echo(f"\r{len(results)} of {count} scenes played", nl=len(results) == count, err=True)
    if process.returncode:
        raise SystemExit(2)
    return results


def _json(results: list[dict[str, Any]]) -> str:
    return json.dumps(
        [
            {
                "defence": cell["defence"], "attack": cell["attack"], "charges": cell["charges"],
                "expected": EXPECTED_CHARGES, "verdict": cell["verdict"], "told": cell["told"], "round": cell["round"],
                "defence_name": DEFENCES[cell["defence"] - 1].name, "attack_name": ATTACKS[cell["attack"] - 1].name,
            }
            for cell in results
        ],
        indent=1,
    )  # fmt: skip


def _table(results: list[dict[str, Any]], defences: list[int], attacks: list[int]) -> str:
    """Return one line per defence. If there are several rounds, each cell shows the worst result."""
    cells = defaultdict(list)
    for cell in results:
        cells[cell["defence"], cell["attack"]].append(cell)
    names = {number: f"{number} {DEFENCES[number - 1].name}" for number in defences}
    width = max(map(len, names.values()))
    lines = [" " * width + "".join(f"  {f'({attack})':>9}" for attack in attacks)]
    for number, name in names.items():
        lines.append(name.ljust(width) + "".join(f"  {_cell(cells[number, attack])}" for attack in attacks))
    lines += ["", *(f"({attack}) {ATTACKS[attack - 1].name}: {ATTACKS[attack - 1].description}" for attack in attacks)]
    lines += [
        "",
        "Each cell shows how often the bank took the money. Once is correct.",
        "Green: charged once, and the shopper knows it. Amber: charged once, but the shopper does not know it.",
    ]
    return "\n".join(lines)


def _cell(results: list[dict[str, Any]]) -> str:
    worst = max(results, key=lambda cell: (BEST_TO_WORST.index(cell["verdict"]), cell["charges"]))
    text = f"{worst['charges']}× {worst['verdict']}"
    return click.style(f"{text:>9}", fg=COLOURS[worst["verdict"]])


def _pairs(fields: tuple[str, ...]) -> dict[str, str]:
    if invalid := [text for text in fields if "=" not in text]:
        raise click.BadParameter(f"{invalid[0]} is not name=value")
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
        click.echo("\nOnly the gateway's statement shows how often money moved. Compare it with the receipts.")
    if any(report.verdict == "red" for report in reports):
        raise SystemExit(1)


def _line(report: against.Report) -> str:
    verdict = click.style(f"{report.verdict:<5}", fg=COLOURS[report.verdict])
    return (
        f"{report.attack:<16} {verdict}  {report.requests} requests, {report.redirects} redirects, "
        f"{report.receipts} receipts, {report.errors} server errors"
    )
