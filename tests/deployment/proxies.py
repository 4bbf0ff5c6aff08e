"""nginx and HAProxy with the configurations of `deploy/`, on free ports of loopback."""

import re
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from setup import proxies
from tests.gateways.bank import ROOT, free_port, until

PEM = ROOT / "tests" / "mail" / "localhost.pem"
"""A certificate for localhost together with its key."""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/payonce.conf;
}}
"""
"""What Debian's nginx.conf does around a file of conf.d."""


@dataclass
class Proxy:
    """A running proxy in front of shops. `url` is its address with TLS."""

    name: str
    folder: Path
    upstreams: Sequence[int]
    port: int = field(default_factory=free_port)
    plain_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "output"

    def write(self) -> Path:
        """Write the configuration, with addresses and paths of this test. Return the main file's path."""
        source = "nginx.conf" if self.name == "nginx" else "haproxy.cfg"
        text = (ROOT / "deploy" / source).read_text()
        text = text.replace("/etc/payonce/errors", str(ROOT / "deploy" / "errors"))
        text = re.sub(r"/etc/payonce/shop\.example\.(pem|key)", str(PEM), text)
        text = text.replace("/var/log/nginx", str(self.folder)).replace("shop.example", "localhost")
        if self.name == "nginx":
            text = text.replace("listen 443", f"listen 127.0.0.1:{self.port}")
            text = text.replace("listen 80", f"listen 127.0.0.1:{self.plain_port}")
            text, found = re.subn(
                r"    server 127\.0\.0\.1:8000( .*;)",
                "\n".join(rf"    server 127.0.0.1:{port}\1" for port in self.upstreams),
                text,
            )
            main = self.folder / "nginx.conf"
            main.write_text(NGINX.format(folder=self.folder))
            (self.folder / "payonce.conf").write_text(text)
        else:
            text = text.replace("bind :443", f"bind 127.0.0.1:{self.port}")
            text = text.replace("bind :80", f"bind 127.0.0.1:{self.plain_port}")
            text = text.replace("    user haproxy\n    group haproxy\n", "")
            servers = [f"    server shop{port} 127.0.0.1:{port}" for port in self.upstreams]
            text, found = re.subn(r"    server shop1 .*", "\n".join(servers), text)
            main = self.folder / "haproxy.cfg"
            main.write_text(text)
        assert found == 1
        return main

    def command(self, *, check: bool = False) -> list[str]:
        """Return the command that runs the proxy, or its own check of the configuration."""
        program, main = proxies.find(self.name), self.write()
        assert program, "`python -m setup.proxies` installs it"
        if self.name == "nginx":
            return [program, *(["-t"] if check else []), "-p", str(self.folder), "-c", str(main)]
        return [program, "-c" if check else "-db", "-f", str(main)]

    def start(self) -> "Proxy":
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        until(self.answers, 60)
        return self

    def answers(self) -> bool:
        assert self.process and self.process.poll() is None, self.log.read_text()
        try:
            return self.client().get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def client(self) -> httpx.Client:
        """Return a browser that speaks TLS with the proxy."""
        return httpx.Client(
            base_url=self.url, verify=ssl.create_default_context(cafile=PEM), trust_env=False, timeout=60
        )

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
