// What applications do through node-postgres: one line per fact, name and value parted by a tab. Arguments: host, port, CA's file.
const fs = require('fs');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const { from, to } = require('pg-copy-streams');
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');

const [host, port, ca] = process.argv.slice(2);
const base = { host, port: Number(port), database: 'node_test', user: 'node' };
const say = (name, ...values) => console.log([name, ...values.map((v) => JSON.stringify(v))].join('\t'));
const told = (e) => [e.code, e.severity, (e.message || '').replaceAll(port, 'PORT')];

async function fact(name, part) {
  try {
    await part((...values) => say(name, ...values));
  } catch (e) {
    say(name, ...told(e));
  }
}

async function main() {
  const tls = { ca: fs.readFileSync(ca), servername: 'localhost' };
  const logins = {
    trust: {}, scram: { user: 'scram', password: 'secret' }, 'wrong password': { user: 'scram', password: 'wrong' },
    TLS: { ssl: tls }, 'scram over TLS': { user: 'scram', password: 'secret', ssl: tls },
    'channel binding': { user: 'scram', password: 'secret', ssl: tls, enableChannelBinding: true },
    'no database': { database: 'nosuch' }, options: { options: '-c work_mem=7MB', application_name: 'node' },
  };
  for (const [name, more] of Object.entries(logins)) {
    await fact('login: ' + name, async (note) => {
      const c = new Client({ ...base, ...more });
      await c.connect();
      const r = await c.query("SELECT pg_backend_pid() AS pid, current_user AS u, current_setting('work_mem') AS w, current_setting('application_name') AS a");
      note(r.rows[0].pid === c.processID, r.rows[0].u, r.rows[0].w, r.rows[0].a);
      await c.end();
    });
  }
  const c = new Client(base);
  await c.connect();
  await fact('types', async (note) => {
    for (const binary of [false, true]) {
      const r = await c.query({ text: "SELECT $1::int AS i, $2::text AS t, $3::numeric AS n, ARRAY[1, NULL] AS a, '{\"k\": 1}'::jsonb AS j, '\\x00ff'::bytea AS y, true AS b", values: [1, 'ä', '1.5'], binary });
      note(r.rows, r.fields.map((f) => [f.name, f.dataTypeID, f.format]), r.command, r.rowCount);
    }
  });
  await fact('prepared', async (note) => {
    for (let i = 0; i < 8; i++) note((await c.query({ name: 'twice', text: 'SELECT $1::int * 2 AS d', values: [i] })).rows);
  });
  await fact('several statements', async (note) => note((await c.query('SELECT 1 AS a; CREATE TEMP TABLE t (i int); INSERT INTO t VALUES (1), (2); TABLE t')).map((r) => [r.command, r.rowCount, r.rows])));
  await fact('queued', async (note) => note((await Promise.allSettled(Array.from({ length: 40 }, (_, i) => c.query(i % 7 === 3 ? 'SELECT 1/0' : 'SELECT $1::int AS i', i % 7 === 3 ? [] : [i]))))
    .map((r) => (r.status === 'fulfilled' ? r.value.rows : told(r.reason)))));
  await fact('error', async () => { await c.query("INSERT INTO t VALUES ('x')"); });
  await fact('transaction', async (note) => {
    await c.query('BEGIN');
    await c.query('INSERT INTO t VALUES (3)');
    await c.query('SELECT nosuch').catch((e) => note(...told(e)));
    await c.query('SELECT 1').catch((e) => note(...told(e)));
    await c.query('ROLLBACK');
    note((await c.query('TABLE t')).rows);
  });
  await fact('cursor', async (note) => {
    const cursor = c.query(new Cursor('SELECT * FROM generate_series(1, 100) i'));
    for (let n = 1; n > 0; ) {
      const rows = await cursor.read(33);
      n = rows.length;
      note(n, rows[0]);
    }
    await cursor.close();
  });
  await fact('copy', async (note) => {
    await c.query('CREATE TEMP TABLE cp (i int, v text)');
    await pipeline(Readable.from(function* () { for (let i = 0; i < 20000; i++) yield `${i}\tvalue ${i}\n`; }()), c.query(from('COPY cp FROM STDIN')));
    let n = 0, lines = 0;
    for await (const chunk of c.query(to('COPY cp TO STDOUT'))) { n += chunk.length; lines += chunk.toString().split('\n').length - 1; }
    note(n, lines, (await c.query('SELECT count(*) FROM cp')).rows);
    await pipeline(Readable.from(['no number\tx\n']), c.query(from('COPY cp FROM STDIN')));
  });
  await fact('notifications', async (note) => {
    const got = [];
    const two = new Promise((done) => c.on('notification', (n) => { got.push([n.channel, n.payload, n.processId === c.processID]); if (got.length === 2) done(); }));
    await c.query('LISTEN node');
    await c.query("NOTIFY node, 'own'");
    const other = new Client(base);
    await other.connect();
    await other.query("NOTIFY node, 'other'");
    await two;
    await other.end();
    note(got);
  });
  await fact('notices', async (note) => {
    const got = [];
    c.on('notice', (n) => got.push([n.severity, n.message]));
    await c.query("DO $$BEGIN RAISE NOTICE 'n'; RAISE WARNING 'w'; END$$");
    note(got);
  });
  await fact('cancel', async () => {
    const running = c.query('SELECT pg_sleep(30)');
    await new Promise((done) => setTimeout(done, 500));
    new Client(base).cancel(c, c.activeQuery ?? c._activeQuery);
    await running;
  });
  await fact('large', async (note) => note((await c.query("SELECT length($1) AS l, repeat('x', 3000000) AS r", ['y'.repeat(5000000)])).rows.map((r) => [r.l, r.r.length])));
  await fact('pool', async (note) => {
    const pool = new Pool({ ...base, max: 8 });
    const sums = await Promise.all(Array.from({ length: 200 }, async (_, i) => (await pool.query('SELECT $1::int AS i', [i])).rows[0].i));
    note(sums.reduce((a, b) => a + b));
    await pool.end();
  });
  await fact('closed by the server', async (note) => {
    const victim = new Client(base);
    await victim.connect();
    const errors = [];
    const ended = new Promise((done) => victim.on('end', done));
    victim.on('error', (e) => errors.push(told(e)));
    await c.query('SELECT pg_terminate_backend($1)', [victim.processID]);
    await ended;
    note(errors);
  });
  await c.end();
  say('end');
}

main().catch((e) => { say('failed', ...told(e)); process.exit(1); });
