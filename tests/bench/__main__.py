"""python -m tests.bench: measure the checkout's speed, compared with the database's limit and with a naive handler.

All contenders use one PostgreSQL (fsync on). In each round every contender runs once, so that all of them are measured
on the machine in the same state. Exits with 1 if a ratio is below its floor, if a server returned another status than
expected, or if a charge is missing.
"""

import argparse
import os
import platform
import sys
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from statistics import median

from tests.bench import contenders, forms, scale, table
from tests.bench.load import Failed, LoadProcess, Run
from tests.postgres import Cluster, private_cluster

CLIENTS, REPLAYS = 16, 50
COPIES = 100
"""Copies of each seeded product. With 1,000 products, shoppers rarely wait for a lock on the same stock."""

WARM_UP = 1.0
"""Seconds per contender before the first round. They are not counted."""


class Bench:
    """The servers of one run. `rates` holds requests per second: for each contender one figure per round."""

    def __init__(self, stack: ExitStack, cluster: Cluster) -> None:
        self.cluster = cluster
        names = ("checkout", "pages", "naive", "bare")
        checkout, pages, naive, bare = (cluster.url(cluster.create(name=name)) for name in names)
        self.shop, self.seeded = contenders.ShopDatabase(checkout, COPIES), contenders.ShopDatabase(pages)
        contenders.SeededDatabase(naive, 1)
        self.limit = contenders.DatabaseLimit(cluster, COPIES)
        serve = contenders.gunicorn
        self.fast = stack.enter_context(serve("tests.bench.shop", checkout))
        self.slow = stack.enter_context(serve("tests.bench.shop", checkout, bank=table.SLOW_BANK))
        self.pages = stack.enter_context(serve("tests.bench.shop", pages))
        self.naive = stack.enter_context(serve("tests.bench.naive", naive))
        self.bare = stack.enter_context(serve("tests.bench.bare", bare, contenders.BARE_CONF))
        self.load = LoadProcess()
        stack.callback(self.load.close)
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.load_shares: list[float] = []

    def first(self, shop: contenders.ShopDatabase, port: int) -> tuple[bytes, str]:
        """Pay one form without measuring. Return the form and the path of its receipt."""
        form = shop.forms(1)[0]
        run = self.load.run(port, [form], 1, 60.0).expect(303)
        shop.paid += 1
        return form, location(run.examples["303"])

    def pay(self, key: str, port: int, connections: int, seconds: float, guess: float) -> None:
        """Measure first payments, each with its own form. `guess` is the expected rate, for the number of forms."""
        requests = self.shop.forms(round(guess * seconds * 1.6) + connections)
        run = self.load.run(port, requests, connections, seconds).expect(303)
        self.shop.paid += run.answers
        self._note(key, run)

    def repeat(self, key: str, port: int, request: bytes, connections: int, seconds: float, status: int = 303) -> None:
        """Measure one request that is sent again and again."""
        run = self.load.run(port, [request] * connections, connections, seconds, repeat=True)
        self._note(key, run.expect(status))

    def _note(self, key: str, run: Run) -> None:
        self.rates[key].append(run.rate)
        self.load_shares.append(run.cpu)


def location(answer: str) -> str:
    """Return the path that an answer redirects to."""
    return next(line.split(": ", 1)[1] for line in answer.split("\r\n") if line.lower().startswith("location: "))


def measure(bench: Bench, rounds: int, seconds: float) -> None:
    """Warm up, then measure every contender once per round."""
    form, _ = bench.first(bench.shop, bench.fast)
    paid, receipt = bench.first(bench.seeded, bench.pages)
    cookie = paid.split(b"Cookie: ")[1].split(b"\r\n")[0].decode()
    pages = [forms.request("GET", path, cookie) for path in ("/", receipt)]
    one_round(bench, form, pages, WARM_UP, 500, 500)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", flush=True)
        guess, limit = max(bench.rates["c"]), bench.rates["a"][-1]
        if number == 0:
            bench.rates.clear()
        one_round(bench, form, pages, seconds, guess, limit)


def one_round(bench: Bench, form: bytes, pages: list[bytes], seconds: float, guess: float, limit: float) -> None:
    """Measure every contender once. `guess` and `limit` are the expected rates of the checkout and of PostgreSQL."""
    bench.rates["a"].append(bench.limit.rate(CLIENTS, round(limit * seconds / 2)))
    bench.repeat("b", bench.naive, form, CLIENTS, seconds)
    bench.pay("c", bench.fast, CLIENTS, seconds, guess)
    bench.repeat("d", bench.fast, form, REPLAYS, seconds)
    bench.pay("e", bench.slow, table.SLOW_CONNECTIONS, seconds * 1.5, table.MOST_WITH_SLOW_BANK)
    bench.repeat("f", bench.pages, pages[0], CLIENTS, seconds / 2, 200)
    bench.repeat("g", bench.pages, pages[1], CLIENTS, seconds / 2, 200)
    bench.repeat("h", bench.bare, form, CLIENTS, seconds / 2)


def about(cluster: Cluster) -> str:
    """Return one line about the machine and the versions of the software."""
    postgresql = cluster.execute("SHOW server_version")[0][0].split()[0]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("gunicorn", "flask", "sqlalchemy", "psycopg2-binary"))
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {postgresql}, {libraries}"


def report(bench: Bench) -> None:
    """Print the table. Raises Failed if a charge is missing or a ratio is below its floor."""
    print("\n".join(["", *table.rows(bench.rates), ""]))
    print(f"The load generator used {median(bench.load_shares):.0%} of a core. Compare the ratios, not the rates.")
    for shop in (bench.shop, bench.seeded):
        if (found := shop.charges()) != {"succeeded": shop.paid}:
            raise Failed(f"{shop.paid} forms were answered with 303, but the charges are {found}")
    if below := table.below_floor(bench.rates):
        raise Failed(f"below the floor: {', '.join(below)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="per contender and round")
    parser.add_argument("--rows", type=int, help="compare a database with so many payments with an empty one instead")
    options = parser.parse_args()
    with private_cluster(durable=True) as cluster, ExitStack() as stack:
        print(about(cluster), flush=True)
        try:
            if options.rows:
                scale.compare(stack, cluster, options.rows, options.rounds, options.seconds)
            else:
                bench = Bench(stack, cluster)
                measure(bench, options.rounds, options.seconds)
                report(bench)
        except Failed as failure:
            sys.exit(str(failure))


if __name__ == "__main__":
    main()
