"""Read the Dockerfile and carry it out in a folder, so that no container engine is needed.

Everything that the file says is really done, on this system instead of the base image. All stages share the folder,
because a Python environment contains its own path and can't be moved.
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
    """One FROM and the instructions that follow it, as (name, arguments)."""

    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Return the arguments of every instruction of this name."""
        return [arguments for step, arguments in self.steps if step == name]

    def last(self, name: str) -> str:
        """Return the arguments of the last instruction of this name, which replaces earlier ones."""
        return self.all(name)[-1]


def read(text: str) -> list[Stage]:
    """Return the stages in order, without comments and with continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if not line.strip():
            continue
        name, arguments = line.split(maxsplit=1)
        if name == "FROM":
            stages.append(Stage(arguments))
        else:
            stages[-1].steps.append((name, arguments.strip()))
    return stages


def exec_form(arguments: str) -> list[str]:
    """Return CMD ["a", "b"] as a list. Options of HEALTHCHECK may precede it."""
    found = re.search(r"\[.*\]$", arguments)
    assert found, f"not in exec form: {arguments}"
    return list(json.loads(found[0]))


class Image:
    """A folder that stands for the image. `demo` is the build argument DEMO; None takes the Dockerfile's default."""

    def __init__(self, folder: Path, demo: str | None = None) -> None:
        self.folder = folder
        self.stages = read((ROOT / "Dockerfile").read_text())
        self.workdir = Path(self.inside(self.stages[-1].last("WORKDIR")))
        self.given = {"DEMO": demo} if demo else {}

    def inside(self, text: str) -> str:
        """Return the text with the image's paths moved into the folder."""
        return re.sub(r"/(?=opt/|srv/payonce)", f"{self.folder}/", text)

    def build(self) -> None:
        """Carry out COPY, ARG and RUN, except RUN in the last stage, because that one only changes the base image.

        Raises CalledProcessError if a RUN fails.
        """
        self.workdir.mkdir(parents=True)
        path = f"{self._base_image()}{os.pathsep}{os.environ['PATH']}"
        for stage in self.stages:
            env = os.environ | {"PATH": path}
            for name, arguments in stage.steps:
                if name == "ARG":
                    variable, _, default = arguments.partition("=")
                    env[variable] = self.given.get(variable, default)
                elif name == "COPY":
                    self._copy(shlex.split(arguments))
                elif name == "RUN" and stage is not self.stages[-1]:
                    command = ["sh", "-ec", self.inside(arguments)]
                    subprocess.run(command, cwd=self.workdir, env=env, check=True, capture_output=True, text=True)

    def _base_image(self) -> Path:
        """Create the programs `python` and `pip` of the base image, which this system may lack. Return their folder."""
        folder = self.folder / "usr/local/bin"
        folder.mkdir(parents=True)
        for name, words in (("python", ""), ("pip", "-m pip ")):
            (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
            (folder / name).chmod(0o755)
        return folder

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        from_stage = sources[0].startswith("--from=")
        for source in sources[1:] if from_stage else sources:
            begin = Path(self.inside(source)) if from_stage else ROOT / source
            end = self.workdir / self.inside(target)
            if begin.is_dir() and begin != end:
                shutil.copytree(begin, end, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            elif begin.is_file():
                file = end / begin.name if target.endswith("/") else end
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(begin, file)

    def environment(self, **more: str) -> dict[str, str]:
        """Return ENV as the file sets it, and `more`, without any variable of the tests' own environment."""
        env = {"PATH": os.defpath, "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        for arguments in self.stages[-1].all("ENV"):
            for pair in shlex.split(arguments):
                name, value = pair.split("=", 1)
                env[name] = self.inside(value).replace("$PATH", env["PATH"])
        return env | more
