package wire

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// copySize is how much the COPY test moves each way: a nightly run gives 1 GiB.
var copySize = flag.Int64("wire.copy", 128<<20, "bytes that the COPY test moves each way")

func TestADumpIsTheSameAndRestoresThroughTheProxy(t *testing.T) {
	s, d, p := clearTools(t, "dumped")
	d.must(dumpedSchema, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-")
	dump := func(c client, database string) string {
		return unrestricted(c.must("", "pg_dump", "--no-owner", database))
	}
	direct := dump(d, "dumped")
	sameText(t, direct, dump(p, "dumped"))
	for _, format := range []string{"custom", "directory"} {
		archive := filepath.Join(t.TempDir(), format)
		args := []string{"--format", format, "--file", archive, "--blobs", "dumped"}
		restore := []string{"--no-owner", "--exit-on-error", "--dbname", "restored"}
		switch format {
		case "directory":
			args, restore = append(args, "--jobs", "3"), append(restore, "--jobs", "3")
		case "custom":
			restore = append(restore, "--single-transaction")
		}
		p.must("", "pg_dump", args...)
		s.query(t, "DROP DATABASE IF EXISTS restored")
		s.query(t, "CREATE DATABASE restored OWNER "+roleTrust)
		p.must("", "pg_restore", append(restore, archive)...)
		sameText(t, direct, dump(d, "restored"))
	}
	s.query(t, "DROP DATABASE restored")
}

// unrestricted drops the random word that newer programs put around a dump.
func unrestricted(s string) string {
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(s, "")
}

const dumpedSchema = `
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s'); CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS numeric(12,3) CHECK (VALUE > 0); CREATE SEQUENCE odd START 3 INCREMENT 2;
CREATE TABLE every_type AS SELECT * FROM (VALUES (` + manyTypes + `)) v;
CREATE TABLE wide (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, p pair, n positive, b bytea, j jsonb, t text COLLATE "C", ts timestamptz,
  g text GENERATED ALWAYS AS (upper(t)) STORED, a int[], u uuid);
INSERT INTO wide (m, p, n, b, j, t, ts, a, u) SELECT CASE i % 3 WHEN 0 THEN 'sad' WHEN 1 THEN 'it''s' END::mood, ROW(i, E'tab\t\\"' || i)::pair, i + 0.125,
  decode(md5(i::text), 'hex'), jsonb_build_object('i', i, 'ä', NULL), repeat(chr(228 + i % 50) || E'\n', i % 20),
  timestamptz '2024-01-01' + i * interval '1.5 hours', ARRAY[i, NULL, -i], md5(i::text)::uuid FROM generate_series(1, 3000) i;
CREATE TABLE measured (at date, v float8) PARTITION BY RANGE (at);
CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2024-01-01') TO ('2024-02-01'); CREATE TABLE measured_d PARTITION OF measured DEFAULT;
INSERT INTO measured SELECT date '2024-01-01' + i, sqrt(i) FROM generate_series(0, 90) i;
CREATE INDEX ON wide USING gin (j); CREATE UNIQUE INDEX partial ON wide (lower(t), id) WHERE m IS NOT NULL;
CREATE VIEW v AS SELECT id, (p).a FROM wide; CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM wide;
CREATE FUNCTION f(i int, OUT o int) LANGUAGE plpgsql AS $f$BEGIN o := i; END$f$;
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN RETURN NEW; END$f$; CREATE TRIGGER tr BEFORE INSERT ON wide FOR EACH ROW EXECUTE FUNCTION trg();
ALTER TABLE measured_d ADD CONSTRAINT positive_v CHECK (v >= 0); COMMENT ON TABLE wide IS 'it''s "wide"'; SELECT nextval('odd');
CREATE RULE r AS ON DELETE TO v DO INSTEAD NOTHING; CREATE STATISTICS st ON t, m FROM wide; ALTER TABLE wide ENABLE ROW LEVEL SECURITY;
CREATE POLICY pol ON wide USING (id > 0); ALTER TABLE wide FORCE ROW LEVEL SECURITY; ALTER TABLE wide NO FORCE ROW LEVEL SECURITY;
SELECT lo_from_bytea(777, decode(repeat('00ff', 5000), 'hex'));
`

// summing is a writer that keeps the hash and the number of what it was given.
type summing struct {
	hash.Hash
	n int64
}

func (s *summing) Write(p []byte) (int, error) { s.n += int64(len(p)); return s.Hash.Write(p) }

// rowLength is the length of one line of copiedRows.
const rowLength = 1024

// copiedRows makes size bytes of rows for COPY: a number and a text.
type copiedRows struct {
	size, at int64
	line     []byte
}

func (r *copiedRows) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.at < r.size {
		inside := int(r.at % rowLength)
		if inside == 0 {
			number := r.at / rowLength
			r.line = fmt.Appendf(r.line[:0], "%015d\t", number)
			for len(r.line) < rowLength-1 {
				r.line = append(r.line, 'a'+byte((number+int64(len(r.line)))%26))
			}
			r.line = append(r.line, '\n')
		}
		m := copy(p[n:], r.line[inside:])
		n, r.at = n+m, r.at+int64(m)
	}
	return n, nil
}

func TestCopyMovesEveryByteBothWays(t *testing.T) {
	s := pg15.start(t)
	size := *copySize / rowLength * rowLength
	ctx, cancel := context.WithTimeout(t.Context(), patience*10)
	defer cancel()
	c, err := pgconn.Connect(ctx, "postgres://"+roleTrust+"@"+s.inClear(t).Listen+"/"+database+"?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "CREATE UNLOGGED TABLE copied (i bigint, v text); ALTER TABLE copied ALTER v SET STORAGE PLAIN").ReadAll(); err != nil {
		t.Fatal(err)
	}
	defer s.query(t, "DROP TABLE wire.copied")
	sent := &summing{Hash: sha256.New()}
	tag, err := c.CopyFrom(ctx, io.TeeReader(&copiedRows{size: size}, sent), "COPY copied FROM STDIN")
	if err != nil || tag.RowsAffected() != size/rowLength || sent.n != size {
		t.Fatalf("copied %s in, of %d bytes (%v)", tag, sent.n, err)
	}
	got := &summing{Hash: sha256.New()}
	const out = "COPY (SELECT lpad(i::text, 15, '0'), v FROM copied) TO STDOUT"
	if tag, err = c.CopyTo(ctx, got, out); err != nil || tag.RowsAffected() != size/rowLength {
		t.Fatalf("copied %s out (%v)", tag, err)
	}
	if string(got.Sum(nil)) != string(sent.Sum(nil)) || got.n != size {
		t.Errorf("%d bytes came back with SHA-256 %x, %d were sent with %x", got.n, got.Sum(nil), sent.n, sent.Sum(nil))
	}
}

func TestABaseBackupThroughTheProxyVerifies(t *testing.T) {
	s := pg15.start(t)
	_, p := tools(t, s.node.Addr(), s.inClear(t).Listen, database)
	dir := filepath.Join(t.TempDir(), "backup")
	p.must("", "pg_basebackup", "--pgdata", dir, "--checkpoint", "fast", "--wal-method", "stream", "--no-sync")
	if said := p.must("", "pg_verifybackup", dir); !strings.Contains(said, "backup successfully verified") {
		t.Errorf("pg_verifybackup: %s", said)
	}
}
