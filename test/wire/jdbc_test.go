package wire

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// jdbcDriver is what is fetched from Maven Central, once.
const jdbcDriver = "org.postgresql:postgresql:42.7.13"

// fetchJDBC returns the path of the driver; the first call on a machine needs Maven and its repository.
func fetchJDBC(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", ".cache", "jdbc"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(jdbcDriver, ":")
	jar := filepath.Join(dir, parts[1]+"-"+parts[2]+".jar")
	if _, err := os.Stat(jar); err == nil {
		return jar
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, "mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
		"-Dartifact="+jdbcDriver, "-DoutputDirectory="+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("fetch %s: %v: %s (needs Java and Maven: scripts/setup.sh keycloak)", jdbcDriver, err, out)
	}
	return jar
}

func TestAJavaApplicationSeesTheSame(t *testing.T) {
	s := pg15.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	jar, classes := fetchJDBC(ctx, t), t.TempDir()
	if out, err := exec.CommandContext(ctx, "javac", "-cp", jar, "-d", classes, filepath.Join("testdata", "Jdbc.java")).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v: %s", err, out)
	}
	used := func(address, rest string) string {
		url := fmt.Sprintf("jdbc:postgresql://%s/%s?ApplicationName=wire&targetServerType=primary%s", address, database, rest)
		out, err := exec.CommandContext(ctx, "java", "-XX:TieredStopAtLevel=1", "-cp", classes+":"+jar, "Jdbc", url, roleSCRAM, rolePassword).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	encryption := "&sslmode=verify-full&channelBinding=require&sslrootcert=" + s.lab.TLS().CAFile
	direct := used(s.node.Addr(), "&sslmode=disable")
	for _, want := range []string{"57014", "22012", "23505", "57P01", "the process is the backend's: true", "inserted 2000", "out 30000 same true"} {
		if !strings.Contains(direct, want) {
			t.Errorf("straight to the server the program does not print %q", want)
		}
	}
	sameText(t, direct, used(s.encrypted(t).Listen, encryption))
	sameText(t, direct, used(s.through(t).Listen, encryption))
	// As many write it: the standby's place is taken by an address where nobody is.
	sameText(t, direct, used("127.0.0.1:1,"+s.inClear(t).Listen, "&sslmode=disable"))
}
