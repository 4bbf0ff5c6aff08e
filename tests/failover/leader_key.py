"""Ask a woken leader's Patroni to renew its key after another node has taken it: python leader_key.py HOST:PORT

Two of Patroni's own clients of etcd play the nodes. Print the name of the key's owner afterwards. Debian's Python runs
this, with the Patroni that `setup.failover` has installed.
"""

import sys
from typing import Any

from patroni.dcs import get_dcs


def client(name: str) -> Any:
    """Return a node's client. As patronictl it reads the keys themselves, not a copy that may be old."""
    return get_dcs({
        "scope": "key", "namespace": "/test/", "name": name, "ttl": 20, "loop_wait": 5, "retry_timeout": 7,
        "patronictl": True, "etcd3": {"hosts": sys.argv[1]},
    })  # fmt: skip


def main() -> None:
    old, new = client("old"), client("new")
    assert old.attempt_to_acquire_leader()
    known = old.get_cluster()
    old._client.call_rpc("/lease/revoke", {"ID": old._lease})  # What etcd does when `ttl` is over.
    assert new.attempt_to_acquire_leader()
    old.update_leader(known, None)
    print(new.get_cluster().leader.name)


if __name__ == "__main__":
    main()
