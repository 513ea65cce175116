-- Three roles with no more rights than they need, for psql to make in the database that it is connected to, as a
-- superuser. It may be run again, and is to be after each migration of a schema. Other names than these:
--   psql -v owner=NAME -v worker=NAME -v reader=NAME
-- A role that is new has no password: give it one with \password.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner}
\else
\set owner amp_owner
\endif
\if :{?worker}
\else
\set worker amp_worker
\endif
\if :{?reader}
\else
\set reader amp_reader
\endif

BEGIN;

-- Amp's own database has an owner already, and migrates itself.
SELECT to_regclass('_sqlx_migrations') IS NULL AS is_ours, to_regclass('workers') IS NOT NULL AS has_workers,
    coalesce((SELECT nspname FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
              WHERE pg_class.oid = to_regclass('workers')), current_schema()) AS schema \gset

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY[:'worker', :'reader'] || CASE WHEN :'is_ours' THEN ARRAY[:'owner'] END) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT current_database() AS database \gset
GRANT CONNECT ON DATABASE :"database" TO :"worker", :"reader";
GRANT USAGE ON SCHEMA :"schema" TO :"worker", :"reader";

-- The owner: runs `ampd migrate`.
\if :is_ours
-- Nobody makes tables there, not even temporary ones, who was not named here. The one is PostgreSQL's default for a
-- database, the other was its default for a schema before version 15.
REVOKE TEMPORARY ON DATABASE :"database" FROM PUBLIC;
REVOKE CREATE ON SCHEMA :"schema" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"owner";
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"owner";
SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, :'owner')
FROM pg_class WHERE oid IN (to_regclass('workers'), to_regclass('ampd_alembic_version')) \gexec
\endif

\if :has_workers
REVOKE ALL ON workers FROM :"worker", :"reader";

-- The reader: runs `ampd admin` and `ampd exporter`.
GRANT SELECT ON workers TO :"reader";

-- The worker: what its statements need, column by column, as far as an old schema of Amp's has the column.
SELECT format('GRANT %s (%s) ON workers TO %I', privilege, string_agg(quote_ident(attname), ', '), :'worker')
FROM (VALUES ('SELECT', '{node_id,heartbeat_at,info,registered_at}'::name[]),
             ('INSERT', '{node_id,heartbeat_at,info,created_at,registered_at}'),
             ('UPDATE', '{heartbeat_at,info,registered_at}')) AS needed (privilege, names)
JOIN pg_attribute ON attrelid = 'workers'::regclass AND attname = ANY (names)
GROUP BY privilege \gexec
\else
\warn 'there is no workers table yet: run "ampd migrate" as the owner, and then this once more'
\endif

COMMIT;
