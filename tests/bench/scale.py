"""python -m tests.bench --rows 5000000: first payments on a full database, compared with an empty one."""

from contextlib import ExitStack
from statistics import median

from tests import history
from tests.bench import contenders
from tests.bench.load import Failed, LoadProcess
from tests.postgres import Cluster

CLIENTS = 16
COPIES = 100
FLOOR = 0.9
GUESS = 400
"""Payments per second for which the first runs have enough forms."""

DEFAULT_MEMORY = "ALTER SYSTEM SET shared_buffers = '128MB'"


class Contender:
    """A shop on a database of its own, in the cluster that both share."""

    def __init__(self, stack: ExitStack, cluster: Cluster, name: str, rows: int) -> None:
        url = cluster.url(cluster.create(name=name))
        self.name, self.rows, self.rates = name, rows, list[float]()
        self.shop = contenders.ShopDatabase(url, COPIES)
        if rows:
            history.fill(cluster, name, history.PAYMENTS, rows)
        self.port = stack.enter_context(contenders.gunicorn("tests.bench.shop", url))

    def pay(self, load: LoadProcess, seconds: float) -> None:
        """Measure first payments, each with its own form."""
        requests = self.shop.forms(round(max([GUESS, *self.rates]) * seconds * 1.3) + CLIENTS)
        run = load.run(self.port, requests, CLIENTS, seconds).expect(303)
        self.shop.paid += run.answers
        self.rates.append(run.rate)

    def check(self) -> None:
        """Raise Failed if a charge is missing."""
        if (found := self.shop.charges()) != {"succeeded": self.rows + self.shop.paid}:
            raise Failed(f"{self.shop.paid} forms were answered with 303 on {self.name}, but the charges are {found}")


def compare(stack: ExitStack, cluster: Cluster, rows: int, rounds: int, seconds: float) -> None:
    """Print the ratio of both rates in each round, and the median. Raises Failed if that is below FLOOR."""
    cluster.execute(DEFAULT_MEMORY)
    cluster.restart()
    print(f"filling a database with {rows:,} payments ...", flush=True)
    full, empty = (Contender(stack, cluster, name, n) for name, n in (("full", rows), ("empty", 0)))
    load = LoadProcess()
    stack.callback(load.close)
    ratios = []
    for number in range(-1, rounds):
        for each in (full, empty) if number % 2 else (empty, full):
            cluster.execute("CHECKPOINT")  # The first write to a page after a checkpoint costs most.
            each.pay(load, seconds)
        if number >= 0:  # The first round only warms up.
            ratios.append(full.rates[-1] / empty.rates[-1])
            print(
                f"full {full.rates[-1]:,.0f}, empty {empty.rates[-1]:,.0f} a second, ratio {ratios[-1]:.2f}", flush=True
            )
    for each in (full, empty):
        each.check()
    print(f"\nfull / empty {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}, floor {FLOOR}")
    if median(ratios) < FLOOR:
        raise Failed(f"below the floor: a database with {rows:,} payments is slower than an empty one")
