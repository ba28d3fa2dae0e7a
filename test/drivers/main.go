package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// errDifferent: a test fails only behind pgtether.
var errDifferent = errors.New("tests fail only behind pgtether")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	binary, cache string
	suites, ways  []string
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var reports []report
	for _, s := range suites() {
		if len(o.suites) > 0 && !slices.Contains(o.suites, s.name) {
			continue
		}
		r, err := examine(ctx, o, s, out)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		reports = append(reports, r...)
	}
	return summarise(out, reports)
}

func parse(args []string) (options, error) {
	flags := flag.NewFlagSet("drivers", flag.ContinueOnError)
	binary := flags.String("pgtether", "bin/pgtether", "the binary")
	cache := flags.String("cache", ".cache/drivers", "where the sources are, and the reports go")
	only := flags.String("suites", "", "comma-separated names of suites; default: all")
	ways := flags.String("ways", strings.Join([]string{wayTerminated, wayPassthrough}, ","), "comma-separated ways through pgtether")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	o := options{ways: strings.Split(*ways, ",")}
	if *only != "" {
		o.suites = strings.Split(*only, ",")
	}
	var errs [2]error
	o.binary, errs[0] = filepath.Abs(*binary)
	o.cache, errs[1] = filepath.Abs(*cache)
	return o, errors.Join(errs[:]...)
}

// report is one suite on one way through pgtether.
type report struct {
	suite, way      string
	direct, through results
	// only are the tests that fail behind pgtether again and again and never straight to the server; unsteady those that came out otherwise
	// when they were run again.
	only, unsteady []string
	took           time.Duration
}

// examine runs one suite straight to a server of its own and every way through the proxy.
func examine(ctx context.Context, o options, s suite, out io.Writer) ([]report, error) {
	w, err := openWorld(ctx, o, s)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := w.close(); err != nil {
			fmt.Fprintln(out, "drivers:", err)
		}
	}()
	began := time.Now()
	direct, err := s.run(ctx, w, wayDirect, nil)
	if err != nil {
		return nil, fmt.Errorf("straight to the server: %w", err)
	}
	if direct.count(passed) == 0 {
		return nil, errors.New("no test passes straight to the server")
	}
	fmt.Fprintf(out, "%s, straight to the server: %d pass, %d fail, %d skip (%s)\n", s.name, direct.count(passed), direct.count(failed),
		direct.count(skipped), time.Since(began).Round(time.Second))
	var reports []report
	for _, way := range o.ways {
		if !slices.Contains(s.ways, way) {
			continue
		}
		r := report{suite: s.name, way: way, direct: direct}
		began := time.Now()
		if r.through, err = s.run(ctx, w, way, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", way, err)
		}
		if err := r.again(ctx, w, s); err != nil {
			return nil, err
		}
		r.took = time.Since(began)
		fmt.Fprintf(out, "%s, %s: %d pass, %d fail, %d skip; only behind pgtether: %d (%s)\n", s.name, way, r.through.count(passed),
			r.through.count(failed), r.through.count(skipped), len(r.only), r.took.Round(time.Second))
		reports = append(reports, r)
	}
	return reports, nil
}

// rounds is how often a test that fails only behind pgtether is run again.
const rounds = 2

// again runs the tests that failed only behind pgtether once more, alone, both ways.
func (r *report) again(ctx context.Context, w *world, s suite) error {
	suspects := onlyBehind(r.direct, r.through)
	for range rounds {
		if len(suspects) == 0 || !s.selects {
			break
		}
		direct, err := s.run(ctx, w, wayDirect, suspects)
		if err != nil {
			return fmt.Errorf("again: %w", err)
		}
		through, err := s.run(ctx, w, r.way, suspects)
		if err != nil {
			return fmt.Errorf("again: %w", err)
		}
		var still []string
		for _, name := range suspects {
			if direct[name] == passed && through[name] != passed {
				still = append(still, name)
			} else {
				r.unsteady = append(r.unsteady, name)
			}
		}
		suspects = still
	}
	r.only = suspects
	return nil
}

// summarise prints the table and fails when something differs.
func summarise(out io.Writer, reports []report) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nsuite\tthrough pgtether\ttests\tfail directly\tfail behind pgtether\tfail only behind pgtether\tunsteady")
	different := 0
	for _, r := range reports {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", r.suite, r.way, len(r.direct), r.direct.count(failed), r.through.count(failed), len(r.only), len(r.unsteady))
		different += len(r.only)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range reports {
		for _, name := range r.only {
			fmt.Fprintf(out, "fails only behind pgtether (%s, %s): %s\n", r.suite, r.way, name)
		}
		for _, name := range r.unsteady {
			fmt.Fprintf(out, "failed once behind pgtether, not again (%s, %s): %s\n", r.suite, r.way, name)
		}
	}
	if different > 0 {
		return fmt.Errorf("%d: %w", different, errDifferent)
	}
	return nil
}
