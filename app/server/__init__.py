"""What gunicorn runs of ours: a worker that waits for whole requests, and how a host stops."""
