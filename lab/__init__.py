"""The Lab: a demonstration that runs the same attacks against broken checkouts and against PayOnce.

It imports `app`; `app` never imports it. `wsgi.py` mounts it.
"""

from pathlib import Path

from flask import Flask

STATIC = Path(__file__).resolve().parent / "static"


def init_app(app: Flask) -> None:
    """Add the Lab's pages, its static files and the command `lab` to the shop."""
    # Imported here, so that the processes that play scenes need not load the views.
    from app import assets, security
    from lab.commands import lab
    from lab.views import blueprint

    app.cli.add_command(lab)
    app.register_blueprint(blueprint)
    assets.init_app(app, STATIC, security.FILE_HEADERS, endpoint="lab.static", prefix="/lab/static/")
    app.context_processor(lambda: {"lab_is_mounted": True})
