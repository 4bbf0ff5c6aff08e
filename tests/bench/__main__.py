"""python -m tests.bench: how fast the checkout is, in relation to what it stands on and to a naive handler.

All contenders run on one PostgreSQL (fsync on) and in turn, round by round, so that they meet the same machine.
Exit status 1 where a floor is missed, where anything but the answer asked for came, or where a charge is lost.
"""

import argparse
import os
import platform
import sys
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from statistics import median

from tests.bench import forms, places, table
from tests.bench.load import Load, Run
from tests.postgres import Cluster, private_cluster

CLIENTS, REPLAYS = 16, 50
COPIES = 100
"""Each product of the seed so many times: 1,000 kinds, so that shoppers rarely wait for each other's stock."""

WARM_UP = 1.0
"""Seconds for each contender before the first round, not counted."""


class Failed(Exception):
    """An answer that should not have come, or a charge that is not as its shopper was told."""


class Bench:
    """The servers of one run, and what was measured: times a second for each contender, one figure a round."""

    def __init__(self, stack: ExitStack, cluster: Cluster) -> None:
        self.cluster = cluster
        names = ("checkout", "pages", "naive", "bare")
        checkout, pages, naive, bare = (cluster.url(cluster.create(name=name)) for name in names)
        self.shop, self.seeded = places.Shop(checkout, COPIES), places.Shop(pages)
        places.Books(naive, 1)
        self.engine = places.Engine(cluster, COPIES)
        serve = places.gunicorn
        self.fast = stack.enter_context(serve("tests.bench.shop", checkout))
        self.slow = stack.enter_context(serve("tests.bench.shop", checkout, bank=table.SLOW_BANK))
        self.pages = stack.enter_context(serve("tests.bench.shop", pages))
        self.naive = stack.enter_context(serve("tests.bench.naive", naive))
        self.bare = stack.enter_context(serve("tests.bench.bare", bare, places.BARE_CONF))
        self.load = Load()
        stack.callback(self.load.close)
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.cost: list[float] = []

    def first(self, shop: places.Shop, port: int) -> tuple[bytes, str]:
        """One form, paid outside of all measuring, and the receipt that it led to."""
        form = shop.forms(1)[0]
        run = self._expect(303, self.load.run(port, [form], 1, 60.0))
        shop.paid += 1
        return form, location(run.examples["303"])

    def pay(self, key: str, port: int, connections: int, seconds: float, guess: float) -> None:
        """First payments, each with a form of its own. `guess` is the rate to have forms enough for."""
        sent = self.shop.forms(round(guess * seconds * 1.6) + connections)
        run = self._expect(303, self.load.run(port, sent, connections, seconds))
        self.shop.paid += run.answers
        self._note(key, run)

    def again(self, key: str, port: int, request: bytes, connections: int, seconds: float, status: int = 303) -> None:
        """The same request again and again."""
        run = self.load.run(port, [request] * connections, connections, seconds, repeat=True)
        self._note(key, self._expect(status, run))

    def _note(self, key: str, run: Run) -> None:
        self.rates[key].append(run.rate)
        self.cost.append(run.cpu)

    def _expect(self, status: int, run: Run) -> Run:
        wrong = [got for got in run.statuses if got != str(status)]
        if wrong:
            raise Failed(f"not only {status}: {run.statuses}; such as:\n{run.examples[wrong[0]][:2000]}")
        return run


def location(answer: str) -> str:
    """The receipt that a POST was sent to."""
    return next(line.split(": ", 1)[1] for line in answer.split("\r\n") if line.lower().startswith("location: "))


def measure(bench: Bench, rounds: int, seconds: float) -> None:
    """Warm up, then round by round each contender in turn."""
    form, _ = bench.first(bench.shop, bench.fast)
    paid, receipt = bench.first(bench.seeded, bench.pages)
    cookie = paid.split(b"Cookie: ")[1].split(b"\r\n")[0].decode()
    looks = [forms.request("GET", path, cookie) for path in ("/", receipt)]
    one_round(bench, form, looks, WARM_UP, 500, 500)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", flush=True)
        guess, engine = max(bench.rates["c"]), bench.rates["a"][-1]
        if number == 0:
            bench.rates.clear()
        one_round(bench, form, looks, seconds, guess, engine)


def one_round(bench: Bench, form: bytes, looks: list[bytes], seconds: float, guess: float, engine: float) -> None:
    """Every contender once. `guess` and `engine` are the rates to expect of the checkout and of PostgreSQL."""
    bench.rates["a"].append(bench.engine.rate(CLIENTS, round(engine * seconds / 2)))
    bench.again("b", bench.naive, form, CLIENTS, seconds)
    bench.pay("c", bench.fast, CLIENTS, seconds, guess)
    bench.again("d", bench.fast, form, REPLAYS, seconds)
    bench.pay("e", bench.slow, table.SLOW_CONNECTIONS, seconds * 1.5, table.ALLOWED)
    bench.again("f", bench.pages, looks[0], CLIENTS, seconds / 2, 200)
    bench.again("g", bench.pages, looks[1], CLIENTS, seconds / 2, 200)
    bench.again("h", bench.bare, form, CLIENTS, seconds / 2)


def about(cluster: Cluster) -> str:
    """The machine and what runs on it."""
    engine = cluster.execute("SHOW server_version")[0][0].split()[0]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("gunicorn", "flask", "sqlalchemy", "psycopg2-binary"))
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {engine}, {libraries}"


def report(bench: Bench) -> None:
    """The table. Raises Failed where a floor is missed or a charge is not what its shopper was told."""
    print("\n".join(["", *table.rows(bench.rates), ""]))
    print(f"The load generator took {median(bench.cost):.0%} of a core. Ratios count: rates drift with the machine.")
    for shop in (bench.shop, bench.seeded):
        if (found := shop.charges()) != {"succeeded": shop.paid}:
            raise Failed(f"{shop.paid} forms were answered with 303, and the charges are {found}")
    if below := table.missed(bench.rates):
        raise Failed(f"below the floor: {', '.join(below)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each contender in each round")
    options = parser.parse_args()
    with private_cluster(durable=True) as cluster, ExitStack() as stack:
        print(about(cluster), flush=True)
        bench = Bench(stack, cluster)
        try:
            measure(bench, options.rounds, options.seconds)
            report(bench)
        except Failed as failure:
            sys.exit(str(failure))


if __name__ == "__main__":
    main()
