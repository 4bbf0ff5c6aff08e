"""pgbouncer in transaction mode between the shop and PostgreSQL, with the configuration in deploy/. Both are real.

Each transaction may run on another connection of the server, so nothing that the shop sets may be needed later.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from app import checks, timeouts
from app.charges import protocol
from app.charges.protocol import Busy
from app.database import reading
from tests.charges.gateways import ScriptedGateway
from tests.conftest import migrate
from tests.factories import order, purchase, ready_to_pay
from tests.failover.front import pgbouncer
from tests.gateways.bank import at_once
from tests.postgres import Cluster, private_cluster
from tests.recovery import recover_and_audit
from tests.shops import Shop

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TWINS = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a PostgreSQL without time-outs in its configuration, as Debian installs it."""
    with private_cluster(durable=False) as cluster:
        conf = cluster.data / "postgresql.conf"
        lines = [line for line in conf.read_text().splitlines() if not line.startswith(tuple(timeouts.MILLISECONDS))]
        conf.write_text("\n".join(lines) + "\n")
        cluster.restart()
        yield cluster


@pytest.fixture
def url(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of an empty database behind pgbouncer, as DATABASE_URL has it."""
    name = cluster.create()
    folder = Path(cluster.folder) / f"front-{name}"
    folder.mkdir(mode=0o711)
    with ExitStack() as stack:
        users = {"payonce": "secret"}
        program, port = pgbouncer(folder, {"host": str(cluster.folder), "port": 5432}, users)
        stack.callback(program.close)
        yield checks.database(f"postgresql://payonce:secret@127.0.0.1:{port}/{name}")
    cluster.drop(name)


@pytest.fixture
def shop(url: str, tmp_path: Path) -> Iterator[Shop]:
    migrate(url)
    shop = Shop(url, tmp_path)
    yield shop
    shop.close()


def test_upgraded_and_ready_at_once(shop: Shop) -> None:
    """`db upgrade` sets the time-outs for new connections. pgbouncer lends the shop the one that it used."""
    assert shop.shopper().client.get("/readyz").text == "ready\n"


def test_twins_of_one_form_and_a_replay_are_one_charge(shop: Shop, cluster: Cluster) -> None:
    forms = [ready_to_pay(shop.shopper(), email=f"{n}@example.org") for n in range(3)]
    for form in forms:
        answers = at_once(*[form.post] * TWINS)
        places = {answer.headers.get("Location") for answer in answers}
        assert [answer.status_code for answer in answers] == [303] * TWINS
        assert {form.post().headers["Location"]} == places
    report = recover_and_audit(shop)
    assert report.foreign == []
    assert Counter(entry.kind for entry in shop.statement()) == {"charge": 3}
    with shop.app.app_context():
        assert all(timeouts_hold() for _ in range(20)), "the audit lifts its time-outs for one transaction only"


def timeouts_hold() -> bool:
    with reading() as tx:
        return timeouts.missing(tx) == []


def test_the_lock_time_out_ends_a_claim(shop: Shop, cluster: Cluster) -> None:
    """A host that vanished holds all products. The claim ends as busy, and nothing was asked."""
    gateway = ScriptedGateway()
    with shop.app.app_context():
        token = order()
        with shop.app.app_context(), reading(together=True) as other:
            other.execute(text("SELECT * FROM product FOR UPDATE"))
            with pytest.raises(Busy):
                protocol.pay(purchase(token), gateway, 3.0)
    assert (gateway.asked, shop.charges()) == ([], {})
