"""Connections that are left open after a fault."""

from tests.postgres import Cluster

CONNECTIONS = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity WHERE datname = %s"


def assert_no_connection_leaked(cluster: Cluster, database: str, pools: int) -> None:
    """Fail if there are more connections than `pools` pools of 20 hold, or if one of them is not idle."""
    [(connections, busy)] = cluster.execute(CONNECTIONS, database)
    assert connections <= 20 * pools
    assert busy == 0
