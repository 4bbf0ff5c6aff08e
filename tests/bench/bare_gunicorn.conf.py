"""The shop's gunicorn settings for the bare handler, without the hooks that use the shop."""

import runpy

HOOKS = {"post_fork", "post_worker_init", "when_ready", "worker_exit", "worker_int"}
globals().update({name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if name not in HOOKS})
