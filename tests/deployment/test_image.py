"""The Dockerfile's install, CMD and HEALTHCHECK lines do what they say."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.dockerfile import ROOT, Image, exec_form, read

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build()
    return image


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Container:
    """The CMD, running on another port than the one in the file."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image, self.port = image, free_port()
        self.env = image.environment(SECRET_KEY="k" * 32, DATABASE_URL=f"sqlite:///{folder}/shop.sqlite")
        # What compose.yaml's migrate step runs.
        for words in (["db", "upgrade"], ["seed"]):
            self.run(["flask", "--app", "wsgi", *words], check=True)
        self.output = folder / "output"
        with self.output.open("w") as output:
            command = self.moved(exec_form(image.stages[-1].last("CMD")))
            self.process = subprocess.Popen(command, env=self.env, cwd=image.workdir, stdout=output, stderr=output)

    def moved(self, command: list[str]) -> list[str]:
        """The command on our port and loopback; its program from the image, as PATH would find it."""
        program = self.image.folder / "opt/venv/bin" / command[0]
        words = [word.replace("0.0.0.0", "127.0.0.1").replace(":8000", f":{self.port}") for word in command]
        return [str(program), *words[1:]]

    def run(self, command: list[str], check: bool = False) -> int:
        """Run something beside it, as the engine would; its exit code."""
        words = self.moved(command)
        return subprocess.run(words, env=self.env, cwd=self.image.workdir, check=check, timeout=60).returncode

    def is_healthy(self) -> bool:
        return self.run(exec_form(self.image.stages[-1].last("HEALTHCHECK"))) == 0

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Iterator[Container]:
    container = Container(image, tmp_path)
    yield container
    if container.process.poll() is None:
        container.process.kill()
        container.process.wait()


def test_the_image_starts_becomes_healthy_and_stops_when_asked(container: Container) -> None:
    deadline = time.monotonic() + 60
    while not container.is_healthy():
        assert container.process.poll() is None, container.output.read_text()
        assert time.monotonic() < deadline, container.output.read_text()
    assert container.stop() == 0, container.output.read_text()
    assert not container.is_healthy()


def test_it_refuses_to_start_without_a_secret_in_one_line(image: Image) -> None:
    program = image.folder / "opt/venv/bin/gunicorn"
    command = [str(program), *exec_form(image.stages[-1].last("CMD"))[1:]]
    said = subprocess.run(command, env=image.environment(), cwd=image.workdir, capture_output=True, text=True)
    assert said.returncode != 0
    assert "SECRET_KEY" in said.stderr
    assert len((said.stderr + said.stdout).strip().splitlines()) == 1


def test_nothing_that_installs_is_in_the_environment(image: Image) -> None:
    assert not list((image.folder / "opt/venv/bin").glob("pip*"))


def test_it_runs_as_nobody_special_and_without_build_tools() -> None:
    build, final = read((ROOT / "Dockerfile").read_text())
    assert final.last("USER") not in {"root", "0"}
    assert "slim" in final.image
    assert not any("apt-get" in step for step in build.all("RUN") + final.all("RUN"))
    assert "pip uninstall" in final.all("RUN")[0]


def test_every_file_that_is_copied_is_sent_to_the_engine() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in read((ROOT / "Dockerfile").read_text()):
        for rest in stage.all("COPY"):
            if not rest.startswith("--from"):
                assert set(rest.split()[:-1]) <= allowed
