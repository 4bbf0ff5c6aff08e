"""The shop's own gunicorn settings for the bare handler, but for the hook that speaks of the shop's database."""

import runpy

globals().update({name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if name != "post_fork"})
