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

-- Amp's own database is recognised by its tables, in any schema. Amp migrates them itself.
SELECT amp.schema IS NULL AS is_ours, coalesce(amp.schema, (
    SELECT nspname FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
    WHERE pg_class.oid = to_regclass('workers')
), current_schema()) AS schema
FROM (SELECT) AS always LEFT JOIN (
AMP_DATABASE
) AS amp ON true \gset

SELECT to_regclass(format('%I.workers', :'schema')) IS NOT NULL AS has_workers,
    format('%I.workers', :'schema') AS workers \gset

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY[:'worker', :'reader'] || CASE WHEN :'is_ours' THEN ARRAY[:'owner'] END) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT current_database() AS database \gset
GRANT CONNECT ON DATABASE :"database" TO :"worker", :"reader";
GRANT USAGE ON SCHEMA :"schema" TO :"worker", :"reader";

-- Roles that do not have the schema on their search path see no table in it. What applies to a role in a database is its
-- setting there, or else the role's, the database's, or the default.
\if :is_ours
\else
SELECT format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', rolname, :'database', :'schema')
FROM pg_roles
CROSS JOIN pg_database
LEFT JOIN LATERAL (
    SELECT substr(setting, length('search_path=') + 1) AS search_path
    FROM pg_db_role_setting, unnest(setconfig) AS setting
    WHERE setrole IN (0, pg_roles.oid) AND setdatabase IN (0, pg_database.oid) AND setting LIKE 'search\_path=%'
    ORDER BY setrole = 0, setdatabase = 0
    LIMIT 1
) AS chosen ON true
WHERE rolname IN (:'worker', :'reader') AND datname = :'database'
    AND :'schema' <> ALL (
        SELECT btrim(btrim(name), '"') FROM unnest(string_to_array(coalesce(search_path, 'public'), ',')) AS name
    ) \gexec
\endif

-- The owner: runs `ampd migrate`.
\if :is_ours
-- Nobody makes tables there, not even temporary ones, who was not named here. The one is PostgreSQL's default for a
-- database, the other was its default for a schema before version 15.
REVOKE TEMPORARY ON DATABASE :"database" FROM PUBLIC;
REVOKE CREATE ON SCHEMA :"schema" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"owner";
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"owner";
SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, :'owner')
FROM pg_class WHERE oid IN (to_regclass(:'workers'), to_regclass(format('%I.ampd_alembic_version', :'schema'))) \gexec
\endif

\if :has_workers
REVOKE ALL ON :"schema".workers FROM :"worker", :"reader";

-- The reader: runs `ampd admin` and `ampd exporter`.
GRANT SELECT ON :"schema".workers TO :"reader";

-- The reader, of Amp's jobs: what its statements need, column by column, as far as Amp has made the tables.
\if :is_ours
\else
SELECT format('REVOKE ALL ON %s FROM %I', attrelid::regclass, :'reader'),
    format('GRANT SELECT (%s) ON %s TO %I', string_agg(quote_ident(attname), ', '), attrelid::regclass, :'reader')
FROM (VALUES ('jobs_status', '{job_id,node_id,status,updated_at}'::name[]),
             ('job_events', '{id,job_id,event_type,detail}')) AS needed (relation, names)
JOIN pg_attribute ON attrelid = to_regclass(format('%I.%I', :'schema', relation)) AND attname = ANY (names)
GROUP BY attrelid \gexec
\endif

-- The worker: what its statements need, column by column, as far as an old schema of Amp's has the column.
SELECT format('GRANT %s (%s) ON %s TO %I', privilege, string_agg(quote_ident(attname), ', '), :'workers', :'worker')
FROM (VALUES ('SELECT', '{node_id,heartbeat_at,info,registered_at}'::name[]),
             ('INSERT', '{node_id,heartbeat_at,info,created_at,registered_at}'),
             ('UPDATE', '{heartbeat_at,info,registered_at}')) AS needed (privilege, names)
JOIN pg_attribute ON attrelid = :'workers'::regclass AND attname = ANY (names)
GROUP BY privilege \gexec

-- BYPASSRLS holds in every database of the server, so granting it is left to the superuser.
SELECT relrowsecurity AND EXISTS (
    SELECT FROM pg_roles WHERE rolname IN (:'worker', :'reader') AND NOT rolbypassrls AND NOT rolsuper
) AS hides_rows FROM pg_class WHERE oid = :'workers'::regclass \gset
\if :hides_rows
\warn 'row-level security on workers would hide rows, which is refused: ALTER ROLE' :"worker" 'BYPASSRLS; ALTER ROLE' :"reader" 'BYPASSRLS;'
\endif
\elif :is_ours
\warn 'there is no workers table yet: run "ampd migrate" as the owner, and then this once more'
\else
\warn 'Amp has not made its workers table yet: start Amp, or upgrade it, and then run this once more'
\endif

COMMIT;
