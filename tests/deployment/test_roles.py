"""deploy/postgres/roles.sh: the shop's role can't change the schema, and neither role is a superuser."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from app import timeouts
from setup import postgres as programs
from tests.conftest import migrate
from tests.factories import ready_to_pay
from tests.gateways.bank import ROOT
from tests.postgres import Cluster, private_cluster
from tests.shops import Shop

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
PASSWORDS = {"OWNER_PASSWORD": 'an owner\'s "password" $1', "SHOP_PASSWORD": "a shop's password"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a server on which the script has run, and the owner has migrated."""
    with private_cluster(durable=False) as cluster:
        cluster.create(name="payonce")
        found = programs.find()
        assert found
        env = {
            "PATH": f"{found}{os.pathsep}{os.environ['PATH']}", "PGHOST": str(cluster.folder),
            "POSTGRES_USER": "payonce", **PASSWORDS,
        }  # fmt: skip
        subprocess.run(["sh", ROOT / "deploy" / "postgres" / "roles.sh"], env=env, check=True, capture_output=True)
        migrate(url(cluster, "payonce_owner"))
        yield cluster


def url(cluster: Cluster, role: str) -> str:
    return cluster.admin.set(username=role, database="payonce").render_as_string(hide_password=False)


def test_the_shop_takes_payments_with_its_own_role(cluster: Cluster, tmp_path: Path) -> None:
    shop = Shop(url(cluster, "payonce_shop"), tmp_path)
    assert shop.shopper().client.get("/readyz").text == "ready\n"
    assert ready_to_pay(shop.shopper()).submit().heading == "Paid: €24.00"
    shop.close()


FORBIDDEN = (
    "DROP TABLE charge",
    "ALTER TABLE charge ADD COLUMN x integer",
    "ALTER TABLE charge DISABLE TRIGGER ALL",
    "TRUNCATE ledger_entry",
    "CREATE TABLE mine (x integer)",
    "CREATE ROLE another",
    "SET session_replication_role = replica",
)


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_shops_role_may_not(cluster: Cluster, statement: str) -> None:
    dsn = cluster.admin.set(drivername="postgresql", username="payonce_shop", database="payonce")
    connection = psycopg2.connect(dsn.render_as_string(hide_password=False))
    try:
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)
    finally:
        connection.close()


def test_no_role_of_the_shop_is_a_superuser(cluster: Cluster) -> None:
    rights = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    roles = cluster.execute(f"SELECT rolname, {rights} FROM pg_roles WHERE rolname LIKE %s", "payonce\\_%")
    assert sorted(roles) == [("payonce_owner", False), ("payonce_shop", False)]


def test_the_script_sets_the_time_outs_of_the_program() -> None:
    script = (ROOT / "deploy" / "postgres" / "roles.sh").read_text()
    for name, milliseconds in timeouts.MILLISECONDS.items():
        assert f"SET {name} = {milliseconds};" in script
