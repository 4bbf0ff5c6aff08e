"""The Dockerfile's install, CMD and HEALTHCHECK lines work, with the demonstration and without it."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deployment.dockerfile import ROOT, Image, exec_form, read
from tests.gateways.bank import free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment"), pytest.mark.timeout(300)]

SECRET = "5d0b7f2e9ac418635d0b7f2e9ac4186f"
STRIPE = {"PAYMENT_GATEWAY": "stripe", "STRIPE_SECRET_KEY": "sk_test_" + "k" * 24}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build()
    return image


@pytest.fixture(scope="module")
def image_without_demo(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("image_without_demo"), demo="off")
    image.build()
    return image


class Container:
    """The CMD of an image on a migrated database, listening on a free port instead of 8000."""

    def __init__(self, image: Image, folder: Path, **settings: str) -> None:
        self.image, self.port = image, free_port()
        self.env = image.environment(
            SECRET_KEY=SECRET,
            DATABASE_URL=f"sqlite:///{folder}/shop.sqlite",
            SANDBOX_DATABASE_URL=f"sqlite:///{folder}/bank.sqlite",
            **settings,
        )
        # The same commands as in compose.yaml's migrate step.
        for words in ("db upgrade", "seed"):
            done = self.run(["flask", "--app", "wsgi", *words.split()])
            assert done.returncode == 0, done.stderr
        self.log = folder / "output"
        with self.log.open("w") as log:
            command = self.adapted(exec_form(image.stages[-1].last("CMD")))
            self.process = subprocess.Popen(command, env=self.env, cwd=image.workdir, stdout=log, stderr=log)

    def adapted(self, command: list[str]) -> list[str]:
        """Return the command with the image's own program, on loopback and on this container's port."""
        program = self.image.folder / "opt/venv/bin" / command[0]
        words = [word.replace("0.0.0.0", "127.0.0.1").replace(":8000", f":{self.port}") for word in command]
        return [str(program), *words[1:]]

    def run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """Run a command beside the CMD, as `docker exec` does."""
        words = self.adapted(command)
        return subprocess.run(
            words, env=self.env, cwd=self.image.workdir, timeout=60, capture_output=True, text=True, check=False
        )

    def is_healthy(self) -> bool:
        return self.run(exec_form(self.image.stages[-1].last("HEALTHCHECK"))).returncode == 0

    def wait_until_healthy(self) -> "Container":
        deadline = time.monotonic() + 60
        while not self.is_healthy():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
        return self

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30, trust_env=False)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)

    def end(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Iterator[Container]:
    container = Container(image, tmp_path)
    yield container
    container.end()


@pytest.fixture
def stripe_container(image_without_demo: Image, tmp_path: Path) -> Iterator[Container]:
    container = Container(image_without_demo, tmp_path, **STRIPE)
    yield container
    container.end()


def refusal(image: Image, **settings: str) -> str:
    """Return the only line that the CMD prints with settings that it must not start with."""
    program = image.folder / "opt/venv/bin/gunicorn"
    command = [str(program), *exec_form(image.stages[-1].last("CMD"))[1:]]
    done = subprocess.run(
        command, env=image.environment(**settings), cwd=image.workdir, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    lines = (done.stderr + done.stdout).strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def importable(image: Image) -> list[str]:
    """Return which packages of the demonstration the image's Python can import."""
    code = "from importlib.util import find_spec as f; print(*[name for name in ('lab', 'sandbox_bank') if f(name)])"
    python = str(image.folder / "opt/venv/bin/python")
    return subprocess.check_output([python, "-c", code], cwd=image.workdir, env=image.environment(), text=True).split()


def test_the_image_starts_becomes_healthy_and_stops_on_sigterm(container: Container) -> None:
    container.wait_until_healthy()
    assert container.stop() == 0, container.log.read_text()
    assert not container.is_healthy()


def test_the_demonstration_is_in_the_image_by_default(image: Image, container: Container) -> None:
    assert importable(image) == ["lab", "sandbox_bank"]
    container.wait_until_healthy()
    assert container.get("/lab").status_code == 200
    statement = container.run(["flask", "--app", "wsgi", "sandbox", "statement"])
    assert (statement.returncode, statement.stdout) == (0, "0 movements of money\n")


def test_without_the_demonstration_the_shop_serves_with_stripe(
    image_without_demo: Image, stripe_container: Container
) -> None:
    assert importable(image_without_demo) == []
    assert not {"lab", "sandbox_bank"} & {path.name for path in image_without_demo.workdir.iterdir()}
    container = stripe_container.wait_until_healthy()
    assert container.get("/").status_code == 200
    assert container.get("/lab").status_code == 404
    statement = container.run(["flask", "--app", "wsgi", "sandbox", "statement"])
    assert statement.returncode == 2
    assert "No such command 'sandbox'" in statement.stderr
    assert container.stop() == 0, container.log.read_text()


def test_without_the_demonstration_the_lab_cannot_be_switched_on(image_without_demo: Image) -> None:
    line = refusal(image_without_demo, SECRET_KEY=SECRET, LAB="on")
    assert line.startswith("PayOnce can't start: LAB is on")


def test_stripe_without_its_key_is_refused_in_one_line(image_without_demo: Image) -> None:
    line = refusal(image_without_demo, SECRET_KEY=SECRET, PAYMENT_GATEWAY="stripe")
    assert "STRIPE_SECRET_KEY" in line


def test_a_build_with_another_value_of_demo_fails(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        Image(tmp_path / "image", demo="no").build()
    assert failed.value.stderr == "DEMO must be on or off\n"


def test_a_missing_secret_is_refused_in_one_line(image: Image) -> None:
    assert "SECRET_KEY" in refusal(image)


def test_the_bank_of_compose_starts_with_its_own_settings_alone(image: Image, tmp_path: Path) -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["bank"]
    url = f"http://127.0.0.1:{free_port()}"
    own = {
        "SANDBOX_BANK_URL": url,
        "SANDBOX_API_KEY": SECRET,
        "SANDBOX_DATABASE_URL": f"sqlite:///{tmp_path}/bank.sqlite",
        "SHOP_HOSTS": "shop.example",
        "SHOP_URL": "https://shop.example",
    }
    assert service["environment"].keys() <= own.keys()
    program, *words = service["command"]
    command = [str(image.folder / "opt/venv/bin" / program), *words]
    bank = subprocess.Popen(command, env=image.environment(**own), cwd=image.workdir)

    def is_ready() -> bool:
        assert bank.poll() is None
        try:
            return httpx.get(f"{url}/healthz", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(is_ready, 60)
        bank.terminate()
        assert bank.wait(timeout=30) == 0
    finally:
        bank.kill()


def test_no_installer_is_in_the_environment(image: Image) -> None:
    assert not list((image.folder / "opt/venv/bin").glob("pip*"))


def test_it_runs_without_privileges_and_without_build_tools() -> None:
    *before, final = read((ROOT / "Dockerfile").read_text())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final.last("USER")), "a name does not show that it is not root"
    assert "slim" in final.image
    assert not any("apt-get" in command for stage in (*before, final) for command in stage.all("RUN"))
    assert "pip uninstall" in final.all("RUN")[0]


def test_every_file_that_is_copied_is_sent_to_docker() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in read((ROOT / "Dockerfile").read_text()):
        for arguments in stage.all("COPY"):
            if not arguments.startswith("--from"):
                assert set(arguments.split()[:-1]) <= allowed
