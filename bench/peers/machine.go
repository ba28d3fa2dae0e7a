package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// describe says when, where and with what the run is made.
func describe(ctx context.Context, st *stage) ([][2]string, error) {
	postgres, err := st.node.QueryText(ctx, "postgres", "SHOW server_version")
	if err != nil {
		return nil, err
	}
	head := [][2]string{
		{"date", time.Now().Format("2006-01-02 15:04 MST")},
		{"machine", fmt.Sprintf("%d × %s, Linux %s", runtime.NumCPU(), processor(), firstLine(os.ReadFile("/proc/sys/kernel/osrelease")))},
		{"PostgreSQL", postgres + ", one server, fsync off, pgbench scale " + strconv.Itoa(st.set.scale) + ", of which the selects read " + strconv.Itoa(st.set.rows) + " rows"},
	}
	for _, p := range st.peers {
		head = append(head, [2]string{p.name, st.version(ctx, p)})
	}
	return append(head,
		[2]string{"measured", fmt.Sprintf("%d rounds of %s each (copy: %d rounds of %d MiB; idle: %d rounds of %d sessions), pgbench -j %d",
			st.set.rounds, st.set.each, st.set.copyRounds, st.set.copyMiB, st.set.idleRounds, st.set.idle, st.set.threads)},
		[2]string{"load average at the start", loadAverage()}), nil
}

// version says what a peer is and how it was set up.
func (st *stage) version(ctx context.Context, p *peer) string {
	ask := func(path string, args ...string) string {
		return firstLine(exec.CommandContext(ctx, path, args...).Output())
	}
	switch p.kind {
	case kindPgtether:
		binary, env := st.set.pgtetherOf(p.name)
		if inherited := os.Getenv("PGTETHER_FORWARDER"); len(env) == 0 && inherited != "" {
			env = []string{"PGTETHER_FORWARDER=" + inherited}
		}
		return strings.Join(append([]string{ask(binary, "version"), "mode observe", "metrics on"}, env...), ", ")
	case kindHAProxy:
		return ask(st.set.haproxy, "-v") + fmt.Sprintf(", mode tcp, its default of threads (%d)", runtime.NumCPU())
	case kindPgBouncer:
		return ask(st.set.pgbouncer, "--version") + ", session pooling, one thread; it keeps server connections for the next client, but not from one measurement to the next"
	case kindIOCopy:
		return "two goroutines and io.Copy for each session, " + runtime.Version() +
			fmt.Sprintf("; at most %d idle sessions, because each splices through two pipes of its own", mostIdle(p.kind))
	default:
		return "the client is connected to PostgreSQL"
	}
}

func firstLine(output []byte, err error) string {
	if err != nil {
		return "version unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	return line
}

// processor is the model of the first one.
func processor() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func loadAverage() string { return firstLine(os.ReadFile("/proc/loadavg")) }
