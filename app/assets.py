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
    """Serve the folder by WhiteNoise with these headers, and let `url_for(endpoint, …)` return the hashed name."""
    hashed = {name: _hashed(name, path) for name, path in _files(folder)}
    kept = {f"{prefix}{name}" for name in hashed.values()}

    def add_headers(sent: Headers, _path: str, _url: str) -> None:
        for name, value in headers.items():
            sent[name] = value

    served = WhiteNoise(
        app.wsgi_app,
        allow_all_origins=False,
        immutable_file_test=lambda _path, url: url in kept,
        add_headers_function=add_headers,
    )
    for name, path in _files(folder):
        for url in (name, hashed[name]):
            served.add_file_to_dictionary(f"{prefix}{url}", str(path))
    app.wsgi_app = served  # type: ignore[method-assign]

    @app.url_defaults
    def _name_with_hash(asked: str, values: dict[str, Any]) -> None:
        if asked == endpoint:
            values["filename"] = hashed.get(values["filename"], values["filename"])


def _files(folder: Path) -> list[tuple[str, Path]]:
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _hashed(name: str, path: Path) -> str:
    """css/shop.css → css/shop.1a2b3c4d5e6f.css"""
    pure = PurePosixPath(name)
    digest = sha256(path.read_bytes()).hexdigest()[:12]
    return str(pure.with_name(f"{pure.stem}.{digest}{pure.suffix}"))
