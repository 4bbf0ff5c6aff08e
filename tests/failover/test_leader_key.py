"""Patroni must not let a leader that was frozen take its key back from the node that leads since.

Debian 12's Patroni 3.0.2 does. The woken leader then overwrites all that the other one has committed since, also what
its synchronous standby had. The shop can't notice that. etcd is real, and so are Patroni's two clients of it.
"""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.failover.nodes import copy_patroni, start_etcd
from tests.postgres import SESSION

pytestmark = pytest.mark.slow

ASK = Path(__file__).with_name("leader_key.py")


def test_a_woken_leader_does_not_take_its_key_back() -> None:
    with TemporaryDirectory(prefix="key-", dir=os.environ.get(SESSION, "/tmp")) as name:
        folder = Path(name)
        folder.chmod(0o711)
        etcd, address = start_etcd(folder, "127.0.0.1")
        try:
            command = [*copy_patroni(folder), str(ASK), address]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        finally:
            etcd.close()
    assert done.stdout == "new\n"
