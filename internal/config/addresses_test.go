package config

import (
	"strings"
	"testing"
)

func TestAddressesAreReadOrSayWhatIsRight(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.11:5432": "", "db.example.org:5432": "", "db_a:1": "", "localhost:65535": "", "[::1]:5432": "", "[fe80::1%eth0]:5432": "",
		"db.example.org.:5432": "", ":5432": "", "A-1.b:5432": "",
		"":                             `"" is not a host and a port, such as "10.0.0.11:5432"`,
		"10.0.0.11":                    `"10.0.0.11" is not a host and a port; "10.0.0.11:5432" would be right`,
		"db":                           `"db" is not a host and a port; "db:5432" would be right`,
		"::1":                          `"::1" is not a host and a port; "[::1]:5432" would be right`,
		"[::1]":                        `"[::1]" is not a host and a port; "[::1]:5432" would be right`,
		"5432":                         `"5432" is not a host and a port; "5432:5432" would be right`,
		"db:":                          `"db:" is not a host and a port: the port must be a number from 1 to 65535`,
		"db:0":                         `"db:0" is not a host and a port: the port must be a number from 1 to 65535`,
		"db:65536":                     `"db:65536" is not a host and a port: the port must be a number from 1 to 65535`,
		"db:postgresql":                `"db:postgresql" is not a host and a port: the port must be a number from 1 to 65535`,
		"db:-1":                        `"db:-1" is not a host and a port: the port must be a number from 1 to 65535`,
		"db:+5":                        `"db:+5" is not a host and a port: the port must be a number from 1 to 65535`,
		"tcp://db:5432":                `"tcp://db:5432" is not a host and a port: write it without a scheme, such as "db:5432"`,
		"/tmp/.s.PGSQL.5432":           `"/tmp/.s.PGSQL.5432" is not a host and a port: Unix sockets are not supported`,
		"-db:5432":                     `"-db:5432" is not a host and a port: "-db" is neither an IP address nor a host name`,
		"d b:5432":                     `"d b:5432" is not a host and a port: "d b" is neither an IP address nor a host name`,
		"a..b:5432":                    `"a..b:5432" is not a host and a port: "a..b" is neither an IP address nor a host name`,
		"user@db:5432":                 `"user@db:5432" is not a host and a port: "user@db" is neither an IP address nor a host name`,
		"a:b:5432":                     `"a:b:5432" is not a host and a port, such as "10.0.0.11:5432"`,
		"[::1:5432":                    `"[::1:5432" is not a host and a port; "[::1:5432]:5432" would be right`,
		strings.Repeat("a", 64) + ":1": `"` + strings.Repeat("a", 60) + `"... is not a host and a port: "` + strings.Repeat("a", 60) + `"... is neither an IP address nor a host name`,
	} {
		_, err := parseEndpoint(text, 5432)
		switch {
		case err == nil && want != "":
			t.Errorf("%q is accepted, want %q", text, want)
		case err != nil && err.Error() != want:
			t.Errorf("%q: %q, want %q", text, err, want)
		}
	}
}

func TestHostNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "a.b": true, "a.b.": true, "1.2": true, "_x": true, "": false, ".": false, ".a": false, "a-": false, "ä": false,
		strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 127): false,
	} {
		if isHostname(name) != want {
			t.Errorf("isHostname(%q) = %v", name, !want)
		}
	}
}

// TestSameIsSymmetricAndTakesCoversSame checks the relations on every pair of a list.
func TestSameIsSymmetricAndTakesCoversSame(t *testing.T) {
	var all []endpoint
	for _, text := range []string{
		"10.0.0.1:1", "10.0.0.1:2", "[::ffff:10.0.0.1]:1", "localhost:1", "127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "0.0.0.0:1", "[::]:1", ":1",
		"db:1", "DB:1", "db.:1", "db2:1",
	} {
		e, err := parseEndpoint(text, 1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	for _, a := range all {
		if !a.same(a) || !a.takes(a) {
			t.Errorf("%+v is not the same as itself", a)
		}
		for _, b := range all {
			if a.same(b) != b.same(a) {
				t.Errorf("same(%+v, %+v) depends on the order", a, b)
			}
			if a.same(b) && !a.takes(b) {
				t.Errorf("%+v is the same as %+v and does not take its connections", a, b)
			}
			if a.port != b.port && (a.same(b) || a.takes(b)) {
				t.Errorf("%+v and %+v have different ports", a, b)
			}
		}
	}
	same := func(x, y string) bool {
		a, _ := parseEndpoint(x, 1)
		b, _ := parseEndpoint(y, 1)
		return a.same(b)
	}
	for pair, want := range map[[2]string]bool{
		{"10.0.0.1:1", "[::ffff:10.0.0.1]:1"}: true, {"localhost:1", "127.0.0.1:1"}: true, {"localhost:1", "[::1]:1"}: true,
		{"127.0.0.1:1", "127.0.0.2:1"}: false, {"db:1", "DB.:1"}: true, {"db:1", "10.0.0.1:1"}: false, {"127.0.0.1:1", "[::1]:1"}: false,
	} {
		if same(pair[0], pair[1]) != want {
			t.Errorf("same(%v) = %v", pair, !want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, seed := range []string{"10.0.0.1:5432", "[::1]:1", "a:b:c", "://", "[", "]:1", "[::1%]:1", "\x00:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEndpoint(text, 5432)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" || strings.ContainsAny(err.Error(), "\x00\n") {
				t.Fatalf("%q is refused with %q", text, err)
			}
			return
		}
		if e.port == 0 || strings.ContainsAny(e.host, " \x00\n/@") {
			t.Fatalf("%q is accepted as %+v", text, e)
		}
	})
}
