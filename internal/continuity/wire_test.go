package continuity

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

// roles of the tests, besides the lab's: app and boss log in, boss as a superuser; worker and chief can be taken by app, chief is a superuser.
const rolesSQL = `
CREATE ROLE boss SUPERUSER LOGIN;
CREATE ROLE worker;
CREATE ROLE chief SUPERUSER;
CREATE ROLE "Odd ""Role" ;
CREATE ROLE app LOGIN IN ROLE worker, chief, "Odd ""Role";
CREATE SCHEMA one AUTHORIZATION app; CREATE SCHEMA two AUTHORIZATION app;
CREATE TABLE one.t (id int, v text); INSERT INTO one.t VALUES (1, 'one');
CREATE TABLE two.t (id int, v text); INSERT INTO two.t VALUES (1, 'two');
CREATE TABLE public.t (id int, v text); INSERT INTO public.t VALUES (1, 'public');
GRANT ALL ON public.t, one.t, two.t TO PUBLIC; GRANT ALL ON SCHEMA one, two TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;
CREATE FUNCTION set_inside(v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('inside.value', v, false); RETURN v; END $$;
CREATE FUNCTION set_plain(v text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN EXECUTE 'SET my_fn.other TO ''' || v || ''''; PERFORM set_config('work_mem', '3MB', false); END $$;
GRANT pg_read_all_settings TO worker;
`

// startServer starts one server with the roles of the tests, which log in without a password; startLab starts more.
func startServer(t testing.TB) *lab.Lab {
	t.Helper()
	return startLab(t, lab.Options{Single: true})
}

func startLab(t testing.TB, opts lab.Options) *lab.Lab {
	t.Helper()
	opts.HBA = []string{"host all app 127.0.0.1/32 trust", "host all boss 127.0.0.1/32 trust"}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Node(lab.RegionA).Exec(ctx, l.AppDatabase, rolesSQL); err != nil {
		t.Fatal(err)
	}
	return l
}

// client is a session as a driver sees it.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	told map[string]string
	pid  uint32
}

// message is one of the server's.
type message struct {
	kind byte
	body string
}

func (m message) String() string {
	if m.kind == 'E' || m.kind == 'N' {
		f, err := pgwire.ParseErrorFields([]byte(m.body))
		return fmt.Sprintf("%c %s %s %v", m.kind, f.SQLState, f.Message, err)
	}
	return fmt.Sprintf("%c%q", m.kind, m.body)
}

func connect(t testing.TB, l *lab.Lab, user, parameters string) *client {
	t.Helper()
	return connectTo(t, l, l.Node(lab.RegionA), user, parameters)
}

func connectTo(t testing.TB, l *lab.Lab, node *lab.Node, user, parameters string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dsn := "postgres://" + user + "@" + node.Addr() + "/" + l.AppDatabase + "?sslmode=disable&" + parameters
	c, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Conn.Close() })
	return &client{conn: h.Conn, r: bufio.NewReader(h.Conn), told: maps.Clone(h.ParameterStatuses), pid: h.PID}
}

// send writes messages and reads up to the wanted number of ReadyForQuery.
func (c *client) send(request []byte, ready int) ([]message, error) {
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	var all []message
	for ready > 0 {
		m, err := c.message()
		if err != nil {
			return all, err
		}
		all = append(all, m)
		if m.kind == 'Z' {
			ready--
		}
	}
	return all, nil
}

func (c *client) message() (message, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return message{}, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return message{}, err
	}
	m := message{kind: head[0], body: string(body)}
	if m.kind == 'S' {
		name, value, err := parameterStatus(body)
		if err != nil {
			return m, err
		}
		c.told[name] = value
	}
	return m, nil
}

func query(text string) []byte { return appendMessage(nil, 'Q', append([]byte(text), 0)) }

// run runs texts as simple queries; an error of the server's fails the test.
func (c *client) run(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if got := c.try(t, text); strings.HasPrefix(got, "error ") {
			t.Fatalf("%s: %s", text, got)
		}
	}
}

// try runs a simple query and returns its rows as text, or its error.
func (c *client) try(t testing.TB, text string) string {
	t.Helper()
	all, err := c.send(query(text), 1)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return outcome(all)
}

// outcome is what messages say: rows, tags and errors.
func outcome(all []message) string {
	var b strings.Builder
	for _, m := range all {
		switch m.kind {
		case 'E':
			f, err := pgwire.ParseErrorFields([]byte(m.body))
			if err != nil {
				return err.Error()
			}
			return "error " + f.SQLState + " " + f.Message
		case 'D':
			columns, err := splitRow([]byte(m.body))
			if err != nil {
				return err.Error()
			}
			for i, c := range columns {
				if i > 0 {
					b.WriteByte('|')
				}
				if c == nil {
					b.WriteString("NULL")
				}
				b.Write(c)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// take is Take on a session; the obstacle and the error are the caller's to judge.
func (c *client) take(t testing.TB, known Known) (*State, Obstacle, error) {
	t.Helper()
	if c.r.Buffered() > 0 {
		t.Fatal("the session is not at rest")
	}
	s, o, _, err := Take(c.conn, known)
	return s, o, err
}
