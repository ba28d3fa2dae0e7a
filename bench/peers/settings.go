package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are the command line.
type settings struct {
	workloads []workload
	peers     []string
	clients   []int

	rounds, copyRounds, idleRounds int
	each                           time.Duration // one measurement of a load that goes on
	threads                        int           // of pgbench
	scale                          int
	rows                           int // of those of the scale, that the selects read
	copyMiB, idle                  int

	pgtether, before, haproxy, pgbouncer string
	out, label                           string
}

// rowsOfScale is how many accounts pgbench makes for each step of its scale.
const rowsOfScale = 100_000

// parseSettings reads the command line; what is wrong with it has been said when it returns an error.
func parseSettings(name string, args []string) (settings, error) {
	var s settings
	var workloads, peers, clients string
	var seconds float64
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.StringVar(&workloads, "workloads", strings.Join(workloadNames(), ","), "what to measure, in this order")
	f.StringVar(&peers, "peers", "pgtether,haproxy,pgbouncer,iocopy,direct", "whom to measure; pgtether-loops and pgtether-goroutines are pgtether with PGTETHER_FORWARDER set to that word, pgtether-before is the binary of -before")
	f.StringVar(&clients, "clients", "1,32,256", "numbers of clients of the workload select; the others have their own")
	f.IntVar(&s.rounds, "rounds", 10, "rounds; in each every peer is measured once")
	f.IntVar(&s.copyRounds, "copy-rounds", 0, "rounds of copyout and copyin; default: -rounds")
	f.IntVar(&s.idleRounds, "idle-rounds", 3, "rounds of idle, at most -rounds")
	f.Float64Var(&seconds, "seconds", 3, "length of one measurement")
	f.IntVar(&s.threads, "threads", 1, "threads of pgbench (-j)")
	f.IntVar(&s.scale, "scale", 10, "scale of pgbench's tables")
	f.IntVar(&s.rows, "rows", 1000, "rows that the selects read; 0: all of the tables'")
	f.IntVar(&s.copyMiB, "copy-mib", 1024, "MiB that one COPY moves")
	f.IntVar(&s.idle, "idle", 9500, "sessions of the workload idle")
	f.StringVar(&s.pgtether, "pgtether", "bin/pgtether", "the pgtether binary")
	f.StringVar(&s.before, "before", "", "another pgtether binary, which -peers names pgtether-before")
	f.StringVar(&s.haproxy, "haproxy", "", "the haproxy binary; default: that of PATH or /usr/sbin")
	f.StringVar(&s.pgbouncer, "pgbouncer", "", "the pgbouncer binary; default: that of PATH or /usr/sbin")
	f.StringVar(&s.out, "out", "bench/results", "folder of the report")
	f.StringVar(&s.label, "label", "peers", "name of the report, after the date")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	s.rows = cmp.Or(s.rows, s.scale*rowsOfScale)
	s.each = time.Duration(seconds * float64(time.Second))
	s.copyRounds, s.idleRounds = cmp.Or(s.copyRounds, s.rounds), min(s.idleRounds, s.rounds)
	err := s.choose(workloads, peers, clients)
	if err == nil {
		err = s.check(f.Args())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	return s, err
}

// choose reads the lists.
func (s *settings) choose(workloads, peers, clients string) (err error) {
	for _, word := range strings.Split(clients, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 1000 {
			return fmt.Errorf("read -clients %q: want numbers from 1 to 1000", clients)
		}
		s.clients = append(s.clients, n)
	}
	for _, word := range strings.Split(workloads, ",") {
		w, ok := workloadNamed(word)
		if !ok {
			return fmt.Errorf("read -workloads %q: there is no %q; want some of %s", workloads, word, strings.Join(workloadNames(), ","))
		}
		s.workloads = append(s.workloads, w)
	}
	s.peers = strings.Split(peers, ",")
	for i, p := range s.peers {
		if _, ok := starters[kindOf(p)]; !ok && kindOf(p) != kindDirect {
			return fmt.Errorf("read -peers %q: there is no peer %q", peers, p)
		}
		if slices.Contains(s.peers[:i], p) {
			return fmt.Errorf("read -peers %q: %s is named twice", peers, p)
		}
	}
	if slices.Contains(s.peers, pgtetherBefore) != (s.before != "") {
		return fmt.Errorf("read -before %q: want a binary if, and only if, -peers names %s", s.before, pgtetherBefore)
	}
	return s.findPrograms()
}

// findPrograms finds the peers that are asked for.
func (s *settings) findPrograms() error {
	for kind, path := range map[string]*string{kindHAProxy: &s.haproxy, kindPgBouncer: &s.pgbouncer} {
		if !slices.Contains(s.peers, kind) || *path != "" {
			continue
		}
		found, err := exec.LookPath(kind)
		if err != nil { // Debian keeps both where only root's PATH looks
			found, err = exec.LookPath("/usr/sbin/" + kind)
		}
		if err != nil {
			return fmt.Errorf("find %s: %w: run scripts/setup.sh peers, or give its path", kind, err)
		}
		*path = found
	}
	return nil
}

func (s *settings) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("read arguments: %q is none", rest[0])
	case s.rounds < 1 || s.copyRounds < 1 || s.idleRounds < 1:
		return errors.New("read -rounds: want at least one")
	case s.each < 100*time.Millisecond:
		return errors.New("read -seconds: want at least 0.1")
	case s.threads < 1 || s.scale < 1 || s.copyMiB < 1 || s.idle < 1:
		return errors.New("read -threads, -scale, -copy-mib, -idle: want at least one of each")
	case s.rows < 1 || s.rows > s.scale*rowsOfScale:
		return fmt.Errorf("read -rows: want at most %d, the rows of the scale", s.scale*rowsOfScale)
	}
	return nil
}
