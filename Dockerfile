# PayOnce in a container: `docker compose up` runs it with PostgreSQL, the bank and a step that migrates.

FROM python:3.11-slim-bookworm AS build
WORKDIR /srv/payonce
COPY requirements/base.txt requirements/base.txt
# Without pip in it, so that what is copied into the image below can install nothing.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r requirements/base.txt

FROM python:3.11-slim-bookworm
RUN pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin payonce \
    && install --directory --owner payonce --mode 0700 /srv/payonce/instance
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/payonce
COPY --from=build /opt/venv /opt/venv
COPY wsgi.py gunicorn.conf.py LICENSE ./
COPY app app
COPY templates templates
COPY static static
USER payonce
EXPOSE 8000
# The root may be read-only: only /tmp and /srv/payonce/instance (SQLite files) are ever written to.
VOLUME /srv/payonce/instance
# The shop answers only to its own host names, so the check speaks as one of them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; host = os.environ.get('SHOP_HOSTS', '').split(',')[0] or '127.0.0.1'; web.urlopen(web.Request('http://127.0.0.1:8000/healthz', headers={'Host': host}), timeout=4)"]
# gunicorn is process 1 itself, so that SIGTERM reaches it and charges in flight finish.
STOPSIGNAL SIGTERM
CMD ["gunicorn", "-c", "gunicorn.conf.py", "--bind", "0.0.0.0:8000", "wsgi:app"]
