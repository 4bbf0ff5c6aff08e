# PayOnce in a container. `docker compose up` runs it with PostgreSQL, the sandbox bank and a step that migrates.
#
# `--build-arg DEMO=off` leaves out the demonstration: the Lab and the sandbox bank.

FROM python:3.11-slim-bookworm AS demo
COPY lab /opt/demo/lab
COPY sandbox_bank /opt/demo/sandbox_bank
ARG DEMO=on
RUN case "$DEMO" in \
        on) ;; \
        off) rm -r /opt/demo/lab /opt/demo/sandbox_bank ;; \
        *) echo "DEMO must be on or off" >&2; exit 1 ;; \
    esac

FROM python:3.11-slim-bookworm AS build
WORKDIR /srv/payonce
COPY requirements/base.txt requirements/base.txt
# The environment contains no pip, so that nothing can be installed in the final image.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r requirements/base.txt

FROM python:3.11-slim-bookworm
RUN pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip \
    && groupadd --system --gid 10001 payonce \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin payonce \
    && install --directory --owner payonce --mode 0700 /srv/payonce/instance
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/payonce
COPY --from=build /opt/venv /opt/venv
COPY --from=demo /opt/demo/ ./
COPY wsgi.py gunicorn.conf.py LICENSE ./
COPY app app
COPY templates templates
COPY static static
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
# The root file system can be read-only. The program writes only to /tmp and /srv/payonce/instance (SQLite files).
VOLUME /srv/payonce/instance
# The shop accepts only its own host names, so the check sends one of them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; host = os.environ.get('SHOP_HOSTS', '').split(',')[0] or '127.0.0.1'; web.urlopen(web.Request('http://127.0.0.1:8000/healthz', headers={'Host': host}), timeout=4)"]
# gunicorn is process 1, so that it receives SIGTERM and lets charges in flight finish.
STOPSIGNAL SIGTERM
CMD ["gunicorn", "-c", "gunicorn.conf.py", "--bind", "0.0.0.0:8000", "wsgi:app"]
