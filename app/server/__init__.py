"""Our parts of gunicorn: a worker that waits for whole requests, log lines, and how a host starts and stops."""
