"""The Lab: every defence meets every attack, live. Nothing in the program imports it but the line that registers it."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Its pages and its command."""
    # Here, so that the processes that play need not load them.
    from app.lab.commands import lab
    from app.lab.views import bp

    app.cli.add_command(lab)
    app.register_blueprint(bp)
