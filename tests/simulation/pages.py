"""The actors of scenarios in which the provider has its own payment page."""

from typing import TYPE_CHECKING

from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.forms import form
from tests.simulation import hosted

if TYPE_CHECKING:
    from lab.stage.stage import Stage


def twins(stage: "Stage") -> dict[str, Script]:
    twins = {name: hosted.shopper(stage, name, form(1)) for name in ("A", "B")}
    return twins | {"V": hosted.payer(stage, form(1).key), "R": actors.worker(stage)}


def tabs(stage: "Stage") -> dict[str, Script]:
    shoppers = {tab: hosted.shopper(stage, tab, form(1, tab)) for tab in ("A", "B")}
    payers = {"V" + tab: hosted.payer(stage, form(1, tab).key) for tab in ("A", "B")}
    return shoppers | payers | {"R": actors.worker(stage, window=0)}


def returned(stage: "Stage") -> dict[str, Script]:
    key = form(1).key
    return {
        "A": hosted.shopper(stage, "A", form(1)),
        "V": hosted.payer(stage, key),
        "W": hosted.provider_webhook(stage, key, times=2),
        "R": actors.worker(stage),
    }


def given_up(stage: "Stage") -> dict[str, Script]:
    key = form(1).key
    return {
        "A": hosted.shopper(stage, "A", form(1)),
        "V": hosted.payer(stage, key),
        "G": hosted.canceler(stage, key),
        "R": actors.worker(stage, window=0),
    }


def forgotten(stage: "Stage") -> dict[str, Script]:
    key = form(1).key
    return {
        "A": hosted.shopper(stage, "A", form(1)),
        "V": hosted.payer(stage, key),
        "T": hosted.next_day(stage, key),
        "R": actors.worker(stage, turns=2),
    }
