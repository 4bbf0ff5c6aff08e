#!/bin/sh
# Create two roles for PayOnce: one owns the tables and runs `db upgrade`, the other only reads and writes rows, and is
# the shop's. Neither is a superuser. PostgreSQL's container image runs this once, when it creates its data folder.
# Elsewhere, run it as a superuser with psql's own variables (PGHOST, PGUSER, ...) in an empty database.
set -eu

: "${OWNER_PASSWORD:?set OWNER_PASSWORD}" "${SHOP_PASSWORD:?set SHOP_PASSWORD}"
database=${POSTGRES_DB:-payonce}

# The passwords are not on the command line, which every process can see. psql quotes them.
psql --set ON_ERROR_STOP=1 --no-psqlrc --quiet --username "${POSTGRES_USER:-postgres}" --dbname "$database" <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv shop_password SHOP_PASSWORD
SELECT current_database() AS database \gset

CREATE ROLE payonce_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
CREATE ROLE payonce_shop LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'shop_password';

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO payonce_owner, payonce_shop;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO payonce_owner;
GRANT USAGE ON SCHEMA public TO payonce_shop;

-- What the owner will create. Triggers still refuse what must not be changed or deleted.
ALTER DEFAULT PRIVILEGES FOR ROLE payonce_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO payonce_shop;
ALTER DEFAULT PRIVILEGES FOR ROLE payonce_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO payonce_shop;

-- `db upgrade` sets these for the role that runs it. The shop refuses to start without them.
ALTER ROLE payonce_shop IN DATABASE :"database" SET lock_timeout = 2000;
ALTER ROLE payonce_shop IN DATABASE :"database" SET statement_timeout = 10000;
ALTER ROLE payonce_shop IN DATABASE :"database" SET idle_in_transaction_session_timeout = 10000;
SQL
