"""Counting never fails a request: after an upgrade, without its folder, and when the file system is full."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.gateways.bank import ROOT, until
from tests.processes.running import RunningShop
from tests.server.masters import children, end, upgrade

pytestmark = pytest.mark.slow

PAGES = ("/", "/basket", "/receipts", "/nowhere", "/healthz", "/checkout")


def statuses(shop: RunningShop) -> set[int]:
    """Request several pages, so that values of several labels are counted. Return the statuses."""
    with httpx.Client(base_url=shop.url, trust_env=False, timeout=60) as client:
        return {client.get(path).status_code for path in PAGES * 3}


def counted(shop: RunningShop) -> bool:
    response = httpx.get(f"{shop.url}/metrics", trust_env=False, timeout=60)
    assert response.status_code == 200
    assert "payonce_database_reachable" in response.text
    return "payonce_http_responses_total{" in response.text


def replace_workers(master: int) -> None:
    """Kill a master's workers, and wait until it has others."""
    before = children(master)
    for pid in before:
        end(pid, signal.SIGKILL)
    until(lambda: bool(children(master)) and not set(children(master)) & set(before), 60)


def test_after_an_upgrade_the_new_master_counts(make_running: Callable[..., RunningShop], tmp_path: Path) -> None:
    shop = make_running(PROMETHEUS_MULTIPROC_DIR=f"{tmp_path}/metrics")
    assert shop.process
    new = upgrade(shop)
    try:
        assert len(list((tmp_path / "metrics").iterdir())) == 2
        assert shop.stop() == 0
        assert statuses(shop) == {200, 303, 404}
        assert counted(shop)
        replace_workers(new)
        statuses(shop)
        assert counted(shop)
    finally:
        end(new)
    assert "Traceback" not in shop.log.read_text()


def test_a_reload_keeps_the_folder(make_running: Callable[..., RunningShop], tmp_path: Path) -> None:
    shop = make_running(PROMETHEUS_MULTIPROC_DIR=f"{tmp_path}/metrics")
    assert shop.process
    statuses(shop)
    before = children(shop.process.pid)
    shop.process.send_signal(signal.SIGHUP)
    assert shop.process
    master = shop.process.pid
    until(lambda: bool(children(master)) and not set(children(master)) & set(before), 60)
    assert counted(shop)
    assert len(list((tmp_path / "metrics").iterdir())) == 1


def test_without_its_folder_the_shop_serves(make_running: Callable[..., RunningShop], tmp_path: Path) -> None:
    shop = make_running(PROMETHEUS_MULTIPROC_DIR=f"{tmp_path}/metrics")
    assert shop.process
    expected = statuses(make_running())
    shutil.rmtree(tmp_path / "metrics")
    assert statuses(shop) == expected
    assert not counted(shop)
    replace_workers(shop.process.pid)
    assert statuses(shop) == expected
    assert not counted(shop)


def test_a_damaged_file_does_not_hide_the_other_metrics(
    make_running: Callable[..., RunningShop], tmp_path: Path
) -> None:
    shop = make_running(PROMETHEUS_MULTIPROC_DIR=f"{tmp_path}/metrics")
    statuses(shop)
    [folder] = (tmp_path / "metrics").iterdir()
    (folder / "counter_1.db").write_bytes(b"\x01\x00")
    assert not counted(shop)


def test_folders_of_dead_masters_are_removed(make_running: Callable[..., RunningShop], tmp_path: Path) -> None:
    """And those of running ones are not, also if their master was killed and a worker still ends its requests."""
    parent = tmp_path / "metrics"
    living, dead = (make_running(PROMETHEUS_MULTIPROC_DIR=str(parent)) for _ in range(2))
    statuses(living)
    assert len(list(parent.iterdir())) == 2
    assert dead.process
    os.killpg(dead.process.pid, signal.SIGKILL)
    dead.process.wait(30)
    (parent / "mine").mkdir()
    make_running(PROMETHEUS_MULTIPROC_DIR=str(parent))
    assert len(list(parent.iterdir())) == 3
    assert (parent / "mine").exists()
    assert counted(living)


COUNT = """
import os, sys
from app import counting
from prometheus_client import Counter
counter = Counter("lines", "What is counted.", ["label"])
plain = Counter("plain", "Without labels.")
counting.install()
for number in range(3000):
    counter.labels(f"{number:0100}").inc()
    plain.inc()
assert counter.labels("x")._value.get() is not None
print("still running")
"""


def may_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("size", [4096, 65_536, 131_072, 262_144])
def test_a_full_file_system_does_not_end_the_process(tmp_path: Path, size: int) -> None:
    """A tmpfs of this size, or, where nobody may mount one, files of at most this size."""
    script, full = tmp_path / "count.py", tmp_path / "full"
    full.mkdir()
    if may_mount():
        script.write_text(COUNT)
        mount = f"mount -t tmpfs -o size={size} none {full} && exec {sys.executable} {script}"
        command = ["unshare", "--mount", "sh", "-c", mount]
    else:
        script.write_text(f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n{COUNT}")
        command = [sys.executable, str(script)]
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": f"{tmp_path}/full", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["still running"]), done
