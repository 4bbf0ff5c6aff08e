"""Read the Dockerfile, and act it out in a folder: no engine needed.

What it can't show is the base image; everything that the file itself says is really done.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Stage:
    """One FROM and what follows it."""

    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """The arguments of every instruction of this kind."""
        return [rest for name, rest in self.steps if name == word]

    def last(self, word: str) -> str:
        """The one that counts where a later one replaces an earlier one."""
        return self.all(word)[-1]


def read(text: str) -> list[Stage]:
    """The stages in order; comments dropped, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            stages.append(Stage(rest))
        else:
            stages[-1].steps.append((word, rest.strip()))
    return stages


def exec_form(words: str) -> list[str]:
    """CMD ["a", "b"] as a list; HEALTHCHECK's options may stand before it."""
    found = re.search(r"\[.*\]$", words)
    assert found, f"not in exec form: {words}"
    return list(json.loads(found[0]))


class Image:
    """A folder that stands for the image: /opt/venv and /srv/payonce lie inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages = read((ROOT / "Dockerfile").read_text())
        self.workdir = Path(self.inside(self.stages[-1].last("WORKDIR")))

    def inside(self, words: str) -> str:
        """The same words with the image's two folders moved in here."""
        return re.sub(r"/(?=opt/venv|srv/payonce)", f"{self.folder}/", words)

    def build(self) -> None:
        """Copy and install as both stages say; the last stage's own RUN only changes the base image."""
        self.workdir.mkdir(parents=True)
        path = f"{self._base_image()}{os.pathsep}{os.environ['PATH']}"
        for stage in self.stages:
            for word, rest in stage.steps:
                if word == "COPY" and not rest.startswith("--from"):
                    self._copy(shlex.split(rest))
                if word == "RUN" and stage is self.stages[0]:
                    command = ["sh", "-ec", self.inside(rest)]
                    subprocess.run(command, cwd=self.workdir, env=os.environ | {"PATH": path}, check=True)

    def _base_image(self) -> Path:
        """What the base image brings and this system may lack: programs named `python` and `pip`."""
        folder = self.folder / "usr/local/bin"
        folder.mkdir(parents=True)
        for name, words in (("python", ""), ("pip", "-m pip ")):
            (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
            (folder / name).chmod(0o755)
        return folder

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        for source in sources:
            to = self.workdir / target if not target.endswith("/") else self.workdir / target / source
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, to)

    def environment(self, **more: str) -> dict[str, str]:
        """ENV as the file gives it, on top of a bare system; nothing of the tests' own environment."""
        env = {"PATH": os.defpath, "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        for rest in self.stages[-1].all("ENV"):
            for pair in shlex.split(rest):
                name, value = pair.split("=", 1)
                env[name] = self.inside(value).replace("$PATH", env["PATH"])
        return env | more
