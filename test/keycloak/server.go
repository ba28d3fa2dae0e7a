package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// The first administrator, made by Keycloak itself at its first start; it exists only in a lab that listens on loopback.
const adminUser, adminPassword = "admin", "admin"

// bootPatience bounds the first start, which creates the schema (12-20 s on two idle cores); stopPatience the end.
const bootPatience, stopPatience = 5 * time.Minute, 30 * time.Second

// poolSize is how many connections Keycloak may have.
const poolSize = 20

// database is where Keycloak keeps its data.
type database struct {
	url, user, password string
	// idle is how many of the pool's connections are made at the start and kept; 0 is 5 of them.
	idle int
}

// server is a running Keycloak.
type server struct {
	// base is the URL of its HTTP interface, took the time from start to ready.
	base string
	took time.Duration

	home  string
	db    database
	ports []string
	log   string
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has been waited for; err is valid then
	err   error
}

// boot starts Keycloak with two free ports and returns when its health check says ready.
func boot(ctx context.Context, home, log string, db database) (*server, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s := &server{base: "http://127.0.0.1:" + ports[0], home: home, db: db, ports: ports}
	return s, s.run(ctx, log)
}

// again stops it and starts it anew at the same address, which is part of the tokens that it gave.
func (s *server) again(ctx context.Context, log string) (*server, error) {
	if err := s.stop(); err != nil {
		return nil, err
	}
	fresh := &server{base: s.base, home: s.home, db: s.db, ports: s.ports}
	return fresh, fresh.run(ctx, log)
}

// run starts the process and returns when its health check says ready. After an error there is none.
func (s *server) run(ctx context.Context, log string) error {
	s.log, s.ended = log, make(chan struct{})
	out, err := os.Create(log)
	if err != nil {
		return fmt.Errorf("open log of Keycloak: %w", err)
	}
	defer out.Close()
	idle := strconv.Itoa(cmp.Or(s.db.idle, 5))
	s.cmd = exec.Command(filepath.Join(s.home, "bin", "kc.sh"), "start", "--optimized", "--cache=local",
		"--http-enabled=true", "--http-host=127.0.0.1", "--http-port="+s.ports[0], "--hostname-strict=false",
		"--db-url="+s.db.url, "--db-username="+s.db.user, "--db-pool-initial-size="+idle, "--db-pool-min-size="+idle, "--db-pool-max-size="+strconv.Itoa(poolSize))
	s.cmd.Env = append(os.Environ(), "KC_HTTP_MANAGEMENT_PORT="+s.ports[1], "KC_DB_PASSWORD="+s.db.password, "JAVA_OPTS_KC_HEAP=-Xms128m -Xmx512m",
		"KC_BOOTSTRAP_ADMIN_USERNAME="+adminUser, "KC_BOOTSTRAP_ADMIN_PASSWORD="+adminPassword)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	began := time.Now()
	if err := rig.StartOwned(s.cmd); err != nil {
		return fmt.Errorf("start Keycloak: %w", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.awaitReady(ctx, "http://127.0.0.1:"+s.ports[1]+"/health/ready"); err != nil {
		return errors.Join(fmt.Errorf("boot Keycloak: %w", err), s.stop())
	}
	s.took = time.Since(began)
	return nil
}

// awaitReady asks the health check until it says 200.
func (s *server) awaitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootPatience, fmt.Errorf("not ready after %s", bootPatience))
	defer cancel()
	for {
		if status, err := get(ctx, url); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("it ended: %w\n%s", errors.Join(s.err, errors.New("before it was ready")), s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", context.Cause(ctx), s.logTail())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// stop ends Keycloak's start script and its Java process, which share a process group, and waits for them.
func (s *server) stop() error {
	group := -s.cmd.Process.Pid
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(group, sig); errors.Is(err, syscall.ESRCH) {
			<-s.ended
			return nil
		} else if err != nil {
			return fmt.Errorf("stop Keycloak: %w", err)
		}
		for deadline := time.Now().Add(stopPatience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if errors.Is(syscall.Kill(group, 0), syscall.ESRCH) {
				<-s.ended
				return nil
			}
		}
	}
	return fmt.Errorf("stop Keycloak: process group %d is still there", -group)
}

// logTail is the end of Keycloak's log.
func (s *server) logTail() string {
	content, err := os.ReadFile(s.log)
	if err != nil {
		return "no log"
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// freePorts finds n ports of loopback that are free now, and that no outgoing connection takes before Keycloak listens there, many seconds later.
func freePorts(n int) ([]string, error) {
	var ports []string
	for len(ports) < n {
		port, err := lab.FreePort()
		if err != nil {
			return nil, err
		}
		if p := strconv.Itoa(port); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports, nil
}
