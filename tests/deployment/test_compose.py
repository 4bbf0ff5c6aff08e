"""compose.yaml says what it must, and the docker client understands it where there is one."""

import os
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deployment.dockerfile import ROOT


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


def test_secrets_come_from_outside_and_are_demanded(services: dict[str, Any]) -> None:
    environment = services["shop"]["environment"]
    assert environment["SECRET_KEY"].startswith("${SECRET_KEY:?")
    assert "${POSTGRES_PASSWORD:?" in environment["DATABASE_URL"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_nothing_serves_before_the_database_is_migrated(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["shop"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert "db upgrade" in services["migrate"]["command"][-1]


def test_our_containers_can_change_nothing_but_their_own_data(services: dict[str, Any]) -> None:
    for name in services.keys() - {"postgres"}:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_shop_has_more_than_one_worker_and_time_to_stop(services: dict[str, Any]) -> None:
    assert services["shop"]["environment"]["WEB_CONCURRENCY"] == "${WEB_CONCURRENCY:-4}"
    assert services["shop"]["stop_grace_period"] == "40s"


def test_the_bank_has_one_name_for_containers_and_browsers(services: dict[str, Any]) -> None:
    bank = services["bank"]
    origin = urlsplit(bank["environment"]["SANDBOX_BANK_URL"])
    assert origin.hostname in bank["networks"]["default"]["aliases"]
    assert bank["ports"] == [f"127.0.0.1:{origin.port}:{origin.port}"]


def test_every_process_of_the_procfile_has_a_service(services: dict[str, Any]) -> None:
    names = {line.split(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()}
    assert names <= services.keys()


def compose(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Ask the client about our file; it needs no engine for that."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment
    command = ["docker", "compose", "--file", str(ROOT / "compose.yaml"), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def has_compose() -> bool:
    """Whether the docker client is here and knows `compose`; both are optional."""
    return shutil.which("docker") is not None and compose("version").returncode == 0


def test_the_docker_client_accepts_the_file() -> None:
    if has_compose():  # Where it is not, what the tests above read is all that can be said.
        assert compose("config", "--quiet", SECRET_KEY="k" * 32, POSTGRES_PASSWORD="p").returncode == 0
        assert "set SECRET_KEY" in compose("config", "--quiet", POSTGRES_PASSWORD="p").stderr
