"""Static files under names that contain the hash of their content, so that browsers can cache them permanently."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from wsgiref.headers import Headers

from flask import Flask
from whitenoise import WhiteNoise


def init_app(
    app: Flask, folder: Path, headers: Mapping[str, str], *, endpoint: str = "static", prefix: str = "/static/"
) -> None:
    """Serve the folder with WhiteNoise and these headers. `url_for(endpoint, …)` returns URLs with hashed names."""
    hashed = {name: _hashed(name, path) for name, path in _files(folder)}
    immutable = {f"{prefix}{name}" for name in hashed.values()}

    def add_headers(response_headers: Headers, _path: str, _url: str) -> None:
        for name, value in headers.items():
            response_headers[name] = value

    whitenoise = WhiteNoise(
        app.wsgi_app,
        allow_all_origins=False,
        immutable_file_test=lambda _path, url: url in immutable,
        add_headers_function=add_headers,
    )
    for name, path in _files(folder):
        for url in (name, hashed[name]):
            whitenoise.add_file_to_dictionary(f"{prefix}{url}", str(path))
    app.wsgi_app = whitenoise  # type: ignore[method-assign]

    @app.url_defaults
    def _use_hashed_name(requested_endpoint: str, values: dict[str, Any]) -> None:
        if requested_endpoint == endpoint:
            values["filename"] = hashed.get(values["filename"], values["filename"])


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return every file below the folder as (relative name, path)."""
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _hashed(name: str, path: Path) -> str:
    """Return the name with the hash of the file's content, such as css/shop.1a2b3c4d5e6f.css for css/shop.css."""
    plain = PurePosixPath(name)
    digest = sha256(path.read_bytes()).hexdigest()[:12]
    return str(plain.with_name(f"{plain.stem}.{digest}{plain.suffix}"))
