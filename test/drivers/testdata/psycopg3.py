"""What applications do through psycopg 3, on libpq 18: one line per fact, name and value parted by a tab. Arguments: host, port, CA's file."""
import asyncio
import sys
import threading
import time

import psycopg
from psycopg import pq, sql
from psycopg.rows import dict_row

host, port, ca = sys.argv[1:4]
base = f"host={host} port={port} dbname=psycopg_test"


def say(name, *values):
    print(name, *[repr(v) for v in values], sep="\t", flush=True)


def fact(name):
    """Runs a part; an error of the server's is its result."""

    def run(part):
        try:
            part()
        except psycopg.Error as e:
            say(name, type(e).__name__, e.sqlstate, e.diag.message_primary or str(e).replace(port, "PORT"))
        return part

    return run


say("libpq", pq.version())
logins = {
    "trust": "user=psycopg sslmode=disable",
    "scram": "user=scram password=secret sslmode=disable",
    "scram over TLS": f"user=scram password=secret sslmode=verify-full sslrootcert={ca}",
    "channel binding": f"user=scram password=secret sslmode=verify-full sslrootcert={ca} channel_binding=require",
    "wrong password": "user=scram password=wrong sslmode=disable",
    "protocol 3.2": "user=psycopg sslmode=disable max_protocol_version=latest",
    "protocol 3.2 at least": "user=psycopg sslmode=disable min_protocol_version=3.2 max_protocol_version=3.2",
    "require_auth": "user=scram password=secret sslmode=disable require_auth=scram-sha-256",
    "target primary": "user=psycopg sslmode=disable target_session_attrs=primary",
    "target read-write": "user=psycopg sslmode=disable target_session_attrs=read-write",
    "target standby": "user=psycopg sslmode=disable target_session_attrs=standby",
    "gss preferred": "user=psycopg gssencmode=prefer",
    "no database": "user=psycopg sslmode=disable dbname=nosuch",
}
for name, params in logins.items():

    @fact("login: " + name)
    def _():
        with psycopg.connect(base + " " + params) as c:
            same = c.execute("SELECT pg_backend_pid()").fetchone()[0] == c.info.backend_pid
            say("login: " + name, same, c.info.server_version, c.pgconn.used_password, c.execute("SELECT current_user").fetchone())


c = psycopg.connect(base + " user=psycopg sslmode=disable", autocommit=True)


@fact("types")
def _():
    for binary in (False, True):
        cur = c.cursor(binary=binary, row_factory=dict_row)
        cur.execute("SELECT %s::int AS i, %s::text AS t, %s::numeric AS n, ARRAY[1, NULL, 3] AS a, now() IS NOT NULL AS b, '{\"k\": [1]}'::jsonb AS j, "
                    "'\\x00ff'::bytea AS y, date '2024-02-29' AS d, interval '1 day 2 sec' AS v, '[1,5)'::int4range AS r", (1, "ä", "1.5"))
        say("types", cur.fetchall(), [d.type_code for d in cur.description])


@fact("prepared")
def _():
    for i in range(12):
        say("prepared", c.execute("SELECT %s::int * 2", (i,), prepare=i > 2).fetchone())
    c.execute("DEALLOCATE ALL")


@fact("pipeline")
def _():
    with c.pipeline() as p:
        cursors = [c.execute("SELECT %s::int", (i,)) for i in range(50)]
        p.sync()
        say("pipeline", [cur.fetchone()[0] for cur in cursors])
    with c.pipeline() as p:
        first = c.execute("SELECT 1")
        c.execute("SELECT 1/0")
        c.execute("SELECT 2")
        p.sync()


@fact("pipeline after an error")
def _():
    say("pipeline after an error", c.execute("SELECT 3").fetchone(), c.info.transaction_status.name)


@fact("copy")
def _():
    c.execute("CREATE TEMP TABLE cp (i int, v text)")
    with c.cursor() as cur:
        with cur.copy("COPY cp FROM STDIN") as copy:
            for i in range(20000):
                copy.write_row((i, f"value {i}"))
        with cur.copy("COPY cp TO STDOUT") as copy:
            data = b"".join(bytes(block) for block in copy)
        say("copy", cur.rowcount, len(data), hash(len(data.splitlines())))
        with cur.copy("COPY cp (i, v) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((1, "x"))
        with cur.copy("COPY cp FROM STDIN") as copy:
            copy.write("no number\tx\n")


@fact("copy that the client fails")
def _():
    try:
        with c.cursor().copy("COPY cp FROM STDIN") as copy:
            copy.write_row((1, "x"))
            raise ValueError("given up")
    except ValueError as e:
        say("copy that the client fails", str(e), c.execute("SELECT count(*) FROM cp").fetchone())


@fact("transactions")
def _():
    with c.transaction():
        c.execute("CREATE TEMP TABLE tx (i int)")
        try:
            with c.transaction():
                c.execute("INSERT INTO tx VALUES (1)")
                c.execute("SELECT 1/0")
        except psycopg.Error as e:
            say("transactions", e.sqlstate)
        c.execute("INSERT INTO tx VALUES (2)")
    say("transactions", c.execute("TABLE tx").fetchall())
    c.autocommit = False
    x = c.xid(1, "global", "branch")
    c.tpc_begin(x)
    c.execute("SELECT 1")
    c.tpc_prepare()
    with psycopg.connect(base + " user=psycopg sslmode=disable") as other:
        say("transactions", [x.gtrid for x in other.tpc_recover()])
    c.tpc_commit()
    c.autocommit = True


@fact("notifications")
def _():
    c.execute("LISTEN py")
    c.execute("NOTIFY py, 'own'")
    with psycopg.connect(base + " user=psycopg sslmode=disable", autocommit=True) as other:
        other.execute("NOTIFY py, 'other'")
        for n in c.notifies(timeout=10, stop_after=2):
            say("notifications", n.payload, n.pid in (c.info.backend_pid, other.info.backend_pid))


for name, params in {"cancel": "sslmode=disable", "cancel, 3.2": "sslmode=disable max_protocol_version=latest", "cancel over TLS": f"sslmode=verify-full sslrootcert={ca}"}.items():
    for safe in (True, False):

        @fact(f"{name}, safe {safe}")
        def _():
            with psycopg.connect(f"{base} user=psycopg {params}") as v:

                def later():
                    time.sleep(0.5)
                    v.cancel_safe() if safe else v.cancel()

                t = threading.Thread(target=later)
                t.start()
                try:
                    v.execute("SELECT pg_sleep(30)")
                finally:
                    t.join()


@fact("cursors")
def _():
    with c.transaction():
        with c.cursor("named") as cur:
            cur.execute("SELECT * FROM generate_series(1, 1000)")
            cur.itersize = 77
            say("cursors", sum(row[0] for row in cur))
            cur.scroll(10, "absolute")
            say("cursors", cur.fetchmany(3))
    say("cursors", list(c.cursor().stream("SELECT generate_series(1, 5)")))


@fact("server's words")
def _():
    words = []
    c.add_notice_handler(lambda d: words.append((d.severity, d.message_primary)))
    c.execute("DO $$BEGIN RAISE NOTICE 'n'; RAISE WARNING 'w'; END$$")
    say("server's words", words)
    say("server's words", [c.info.parameter_status(p) for p in ("server_version", "TimeZone", "in_hot_standby", "application_name", "is_superuser")])
    c.execute("SET application_name = 'other'")
    say("server's words", c.info.parameter_status("application_name"))


async def many():
    async def one(i):
        async with await psycopg.AsyncConnection.connect(base + " user=psycopg sslmode=disable") as a:
            return (await (await a.execute("SELECT %s::int", (i,))).fetchone())[0]

    return sum(await asyncio.gather(*[one(i) for i in range(20)]))


@fact("async")
def _():
    say("async", asyncio.run(many()))


@fact("closed by the server")
def _():
    with psycopg.connect(base + " user=psycopg sslmode=disable", autocommit=True) as v:
        c.execute(sql.SQL("SELECT pg_terminate_backend({})").format(v.info.backend_pid))
        time.sleep(0.3)
        v.execute("SELECT 1")


c.close()
say("end")
