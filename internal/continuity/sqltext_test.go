package continuity

import (
	"strings"
	"testing"
)

func TestOnlyOneCertainPrepareIsRunAgain(t *testing.T) {
	for text, want := range map[string]bool{
		"PREPARE a AS SELECT 1":                                   true,
		"  prepare\n\"a;b\"(int)as select ';'||$1;; -- ; done":    true,
		"/* ; /* ; */ ; */PREPARE a AS SELECT $$;'$$":             true,
		"PREPARE a AS SELECT $x$;$$;$y$;$x$ || 'it''s;'":          true,
		"PREPARE a AS SELECT U&'d\\0061t;' , x'1f', b'1', n';'":   true,
		"PREPARE a AS SELECT U&';' , x'1f', b'1', n';'":           true,
		"PREPARE a AS SELECT E'\\';' || E';\\\\'":                 true,
		"PREPARE a AS SELECT a$b$c FROM t":                        true,
		"PREPARE a AS SELECT $1, $2::text FROM \"t;\"\"\"":        true,
		"PREPARE a AS SELECT 'a' -- ;\n ';'":                      true,
		"PREPARE a AS SELECT 1--;\r":                              true,
		"PREPARE a AS SELECT 'h\u00e9;'":                          true,
		"":                                                        false,
		"PREPARE":                                                 false,
		"PREPARE a":                                               true, // a syntax error, which the server keeps under no name
		"SELECT 1":                                                false,
		"SELECT 1; PREPARE a AS SELECT 1":                         false,
		"PREPARE a AS SELECT 1; SELECT 2":                         false,
		"PREPARE a AS SELECT 1;;;SELECT 2":                        false,
		"; PREPARE a AS SELECT 1":                                 false,
		"PREPARE TRANSACTION 'x'":                                 false,
		"PREPAREa AS SELECT 1":                                    false,
		"PREPARE a AS SELECT 'x\\'; DELETE FROM t; --'":           false, // one statement or two, as standard_conforming_strings was
		"PREPARE a AS SELECT 'x\\'":                               false,
		"PREPARE a AS SELECT E'a'\n';\\'; DELETE FROM t; --'":     false,
		"PREPARE a AS SELECT E'a' /* */ 'b'":                      false,
		"PREPARE a AS SELECT E'a' -- x\n 'b'":                     false,
		"PREPARE a AS SELECT 'open":                               false,
		"PREPARE a AS SELECT \"open":                              false,
		"PREPARE a AS SELECT $$open":                              false,
		"PREPARE a AS SELECT $x$open$y$":                          false,
		"PREPARE a AS SELECT 1 /* open":                           false,
		"PREPARE a AS SELECT 1 /* /* */ open":                     false,
		"PREPARE a AS SELECT 1 \x00":                              false,
		"PREPARE a AS SELECT $":                                   false,
		"DO $$ BEGIN EXECUTE 'PREPARE a AS SELECT 1'; END $$":     false,
		"EXPLAIN PREPARE a AS SELECT 1":                           false,
		"PREPARE a AS SELECT $$a$$;DELETE FROM t;SELECT $$b$$":    false,
		"PREPARE a AS SELECT 1 AS x$$;DELETE FROM t;SELECT 1 y$$": false, // x$$ is a name
	} {
		if got := singlePrepare(text); got != want {
			t.Errorf("%q: %v; want %v", text, got, want)
		}
	}
}

// FuzzSinglePrepare: what is certain stays certain with a semicolon behind it, and never with another statement.
func FuzzSinglePrepare(f *testing.F) {
	for _, text := range []string{"PREPARE a AS SELECT 1", "PREPARE a AS SELECT E'\\';'", "PREPARE a AS SELECT $x$;$x$ -- ;", "prepare a as select U&';' /* ; */"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !singlePrepare(text) {
			return
		}
		if !singlePrepare(text+"\n;") || !singlePrepare("/**/"+text+"\n ; -- end") {
			t.Errorf("%q is no longer one with a semicolon", text)
		}
		if singlePrepare(text+"\n;SELECT 1") || singlePrepare("SELECT 1;"+text) || singlePrepare(text+"\n;"+text) {
			t.Errorf("%q passes together with another statement", text)
		}
		if strings.Contains(text, "\x00") {
			t.Errorf("%q holds a zero byte", text)
		}
	})
}
