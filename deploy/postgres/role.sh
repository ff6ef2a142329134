#!/bin/sh
# Runs once, when the database's volume is empty: a role that row-level security binds, and its database.
set -eu

psql --set=ON_ERROR_STOP=1 --set=password="$BURSAR_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE bursar LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE DATABASE bursar OWNER bursar ENCODING 'UTF8' TEMPLATE template0;
SQL
