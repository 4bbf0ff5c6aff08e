"""The stage's database: new, migrated and seeded, with a short deadlock timeout and no vacuum of its own."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from app import create_app
from app.settings import Settings
from tests.conftest import migrate
from tests.factories import SECRET
from tests.isolation.schedules import SEEDED
from tests.isolation.stage import Stage
from tests.postgres import Server

SETTINGS = {"deadlock_timeout": "10ms", "lock_timeout": "6s"}
"""A deadlock ends at once, as 40P01 and not as a lock timeout."""


@contextmanager
def opened(server: Server) -> Iterator[Stage]:
    """Yield a stage over a new database of this server."""
    name = server.create()
    try:
        url = server.url(name)
        migrate(url)
        role = server.execute("SELECT current_user")[0][0]
        for setting, value in SETTINGS.items():  # For the role, because `db upgrade` sets its lock_timeout there.
            server.execute(f"""ALTER ROLE "{role}" IN DATABASE "{name}" SET {setting} = '{value}'""")
        with closing(Stage(create_app(Settings(secret_key=SECRET, database_url=url)), url)) as stage:
            for (table,) in stage.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
                stage.sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
            stage.save(SEEDED)
            yield stage
    finally:
        server.drop(name)
