"""DATABASE_URL: one host, several hosts as PostgreSQL writes them, and refusals in one line without the password."""

import psycopg2.extensions
import pytest
from sqlalchemy.engine import make_url

from app import checks

READ_WRITE = "target_session_attrs=read-write"


def connection_string(url: str) -> dict[str, str]:
    """Return what the driver is given for this DATABASE_URL."""
    parsed = make_url(checks.database(url))
    options = parsed.get_dialect()().create_connect_args(parsed)[1]
    return psycopg2.extensions.parse_dsn(psycopg2.extensions.make_dsn(**options))


@pytest.mark.parametrize("url", [
    f"postgresql://u:p%40w@db1:5432,db2:5433/shop?{READ_WRITE}",
    f"postgres://u:p%40w@db1,db2:5433/shop?{READ_WRITE}",
    f"postgresql+psycopg2://u:p%40w@/shop?host=db1:5432&host=db2:5433&{READ_WRITE}",
])  # fmt: skip
def test_several_hosts(url: str) -> None:
    assert connection_string(url) == {
        "host": "db1,db2", "port": "5432,5433", "user": "u", "password": "p@w", "dbname": "shop",
        "target_session_attrs": "read-write",
    }  # fmt: skip


def test_several_hosts_with_addresses_of_ipv6_and_more_options() -> None:
    found = connection_string("postgresql://u@[::1]:5432,10.0.0.1/shop?sslmode=require&target_session_attrs=primary")
    assert (found["host"], found["port"], found["sslmode"]) == ("::1,10.0.0.1", "5432,5432", "require")


@pytest.mark.parametrize("url", [
    "postgresql://u:secret@db/shop", "postgresql://u:se%40cret@db:5433/shop?sslmode=verify-full",
    "postgresql+psycopg2://u:secret@/shop?host=%2Fvar%2Frun&port=5432", f"postgresql://u:secret@db/shop?{READ_WRITE}",
])  # fmt: skip
def test_one_host_stays_as_it_is(url: str) -> None:
    assert make_url(checks.database(url)) == make_url(url).set(drivername="postgresql+psycopg2")


@pytest.mark.parametrize(("url", "reason"), [
    ("postgresql://u:secret@db1:5432,db2:5432/shop", "must end with ?target_session_attrs=read-write"),
    ("postgresql://u:secret@db1,db2/shop?target_session_attrs=any", "must end with ?target_session_attrs=read-write"),
    ("postgresql://u:secret@/shop?host=db1&host=db2", "must end with ?target_session_attrs=read-write"),
    ("postgresql://u:secret@db/shop?target_session_attrs=standby", "must have target_session_attrs=read-write"),
    ("postgresql://u:secret@db:port/shop", "must be a URL such as"),
    (f"postgresql://u:secret@db1:port,db2/shop?{READ_WRITE}", "must be a URL such as"),
    (f"postgresql://u:secret@db1:99999,db2/shop?{READ_WRITE}", "must be a URL such as"),
    (f"postgresql://u:secret@db1,/shop?{READ_WRITE}", "must be a URL such as"),
    (f"postgresql://u:secret@db1,db2/shop?{READ_WRITE}&port=1", "must be a URL such as"),
    ("postgresql://u:secret@db/shop?sslmod=require", "must be a URL such as"),
    ("sqlite://host/shop.sqlite", "must be a URL such as"),
])  # fmt: skip
def test_what_can_t_work_is_refused_in_one_line_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^must [^\n]+$") as caught:
        checks.database(url)
    assert str(caught.value).startswith(reason)
    assert "secret" not in str(caught.value)
