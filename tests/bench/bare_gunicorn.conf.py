"""The shop's gunicorn settings for the bare handler, without the hook that uses the shop's database."""

import runpy

globals().update({name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if name != "post_fork"})
