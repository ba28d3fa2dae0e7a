package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is everything that was measured.
type Report struct {
	// Head says when, where and with what: names and texts, in order.
	Head     [][2]string
	Samples  []Sample
	Failures []string
}

// Sample is one measurement.
type Sample struct {
	Workload string
	Clients  int
	Round    int
	Peer     string
	Result   Result
}

// add takes in a measurement, or its failure, and prints it.
func (r *Report) add(s Sample, err error) {
	line := fmt.Sprintf("%s, %d clients, round %d, %s", s.Workload, s.Clients, s.Round, s.Peer)
	if err != nil {
		r.Failures = append(r.Failures, fmt.Sprintf("%s: %s", line, strings.ReplaceAll(err.Error(), "\n", " | ")))
		fmt.Printf("  %2d %-20s FAILED: %v\n", s.Round, s.Peer, err)
		return
	}
	r.Samples = append(r.Samples, s)
	fmt.Printf("  %2d %-20s", s.Round, s.Peer)
	for _, m := range metrics {
		if v, ok := s.Result[m.key]; ok {
			fmt.Printf("  %s %s", m.title, number(v))
		}
	}
	fmt.Println()
}

// write writes the report as a page, its raw numbers as CSV and its picture, and never over another report.
func (r *Report) write(dir, label string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of the report: %w", err)
	}
	base := filepath.Join(dir, time.Now().Format(time.DateOnly)+"-"+label)
	for n := 2; ; n++ {
		if _, err := os.Stat(base + ".md"); os.IsNotExist(err) {
			break
		}
		base = filepath.Join(dir, fmt.Sprintf("%s-%s-%d", time.Now().Format(time.DateOnly), label, n))
	}
	numbers, err := r.csv()
	if err != nil {
		return err
	}
	for ending, content := range map[string]string{".md": r.page(filepath.Base(base)), ".csv": numbers, ".svg": r.picture()} {
		if err := os.WriteFile(base+ending, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	fmt.Printf("\nwritten: %s.md, .csv, .svg\n", base)
	return nil
}

// csv holds one line for each number.
func (r *Report) csv() (string, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	lines := [][]string{{"workload", "clients", "round", "peer", "metric", "value"}}
	for _, s := range r.Samples {
		for _, m := range slices.Sorted(maps.Keys(s.Result)) {
			lines = append(lines, []string{s.Workload, strconv.Itoa(s.Clients), strconv.Itoa(s.Round), s.Peer, m, strconv.FormatFloat(s.Result[m], 'g', 7, 64)})
		}
	}
	if err := w.WriteAll(lines); err != nil {
		return "", fmt.Errorf("write CSV: %w", err)
	}
	return b.String(), nil
}

// page is the report for people.
func (r *Report) page(base string) string {
	var b strings.Builder
	b.WriteString("# pgtether and its peers, side by side\n\n")
	b.WriteString("Each cell: median, in brackets the least and the most of all rounds. Ratios below 1 speak for pgtether where little is good, above 1 where\n" +
		"much is good: of the medians, then the median of the ratios within each round, in brackets their least and their most. *best* is the better of\nHAProxy and PgBouncer, in each round anew.\n\n")
	for _, line := range r.Head {
		fmt.Fprintf(&b, "* %s: %s\n", line[0], line[1])
	}
	fmt.Fprintf(&b, "\nEvery number: [%[1]s.csv](%[1]s.csv)\n\n![processor time per transaction](%[1]s.svg)\n", base)
	for _, c := range r.cases() {
		fmt.Fprintf(&b, "\n## %s\n\n", c.title())
		c.values(&b)
		c.ratios(&b)
	}
	if len(r.Failures) > 0 {
		b.WriteString("\n## Measurements that failed\n\n")
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "* %s\n", f)
		}
	}
	return b.String()
}

// series are the numbers of one metric by peer and round.
type series map[string]map[int]float64

// caseOf is all that was measured of one workload with one number of clients.
type caseOf struct {
	workload workload
	clients  int
	peers    []string // in the order of the first round
	numbers  map[string]series
}

func (c caseOf) title() string {
	unit := "clients"
	if c.clients == 1 {
		unit = "client"
	}
	if c.workload.name == "idle" || strings.HasPrefix(c.workload.name, "copy") {
		return fmt.Sprintf("%s: %s", c.workload.name, c.workload.title)
	}
	return fmt.Sprintf("%s: %s, %d %s", c.workload.name, c.workload.title, c.clients, unit)
}

// cases sorts the samples into cases, in the order in which they were measured; peers are in one order throughout.
func (r *Report) cases() (all []caseOf) {
	for _, s := range r.Samples {
		i := slices.IndexFunc(all, func(c caseOf) bool { return c.workload.name == s.Workload && c.clients == s.Clients })
		if i < 0 {
			w, ok := workloadNamed(s.Workload)
			if !ok {
				w = workload{name: s.Workload}
			}
			all = append(all, caseOf{workload: w, clients: s.Clients, numbers: map[string]series{}})
			i = len(all) - 1
		}
		c := &all[i]
		if !slices.Contains(c.peers, s.Peer) {
			c.peers = append(c.peers, s.Peer)
		}
		for key, v := range s.Result {
			if c.numbers[key] == nil {
				c.numbers[key] = series{}
			}
			if c.numbers[key][s.Peer] == nil {
				c.numbers[key][s.Peer] = map[int]float64{}
			}
			c.numbers[key][s.Peer][s.Round] = v
		}
	}
	for i := range all {
		slices.SortStableFunc(all[i].peers, func(a, b string) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b)) })
	}
	return all
}

// rank orders peers for readers.
func rank(peer string) int {
	return slices.Index([]string{kindPgtether, kindHAProxy, kindPgBouncer, kindIOCopy, kindDirect}, kindOf(peer))
}

// values writes what each peer did.
func (c caseOf) values(b *strings.Builder) {
	b.WriteString("| |")
	rule := "|---|"
	for _, m := range metrics {
		if c.numbers[m.key] != nil {
			fmt.Fprintf(b, " %s |", m.title)
			rule += "---|"
		}
	}
	b.WriteString(" rounds |\n" + rule + "---|\n")
	for _, p := range c.peers {
		fmt.Fprintf(b, "| %s |", p)
		rounds := 0
		for _, m := range metrics {
			if c.numbers[m.key] == nil {
				continue
			}
			of := slices.Collect(maps.Values(c.numbers[m.key][p]))
			rounds = max(rounds, len(of))
			fmt.Fprintf(b, " %s |", spreadOf(of))
		}
		fmt.Fprintf(b, " %d |\n", rounds)
	}
}

// ratios writes how every pgtether compares, and whether that is what was aimed at.
func (c caseOf) ratios(b *strings.Builder) {
	var lines strings.Builder
	for _, ours := range c.peers {
		if kindOf(ours) != kindPgtether {
			continue
		}
		for _, m := range metrics {
			if s := c.numbers[m.key]; s != nil && s[ours] != nil {
				c.ratioLine(&lines, ours, m, s)
			}
		}
	}
	if lines.Len() > 0 {
		b.WriteString("\n| | | / haproxy | / pgbouncer | / best | / iocopy | / direct | aim |\n|---|---|---|---|---|---|---|---|\n" + lines.String())
	}
}

func (c caseOf) ratioLine(b *strings.Builder, ours string, m metric, s series) {
	others := map[string]map[int]float64{bestPeer: best(s[kindHAProxy], s[kindPgBouncer], m.muchIsGood)}
	maps.Copy(others, s)
	fmt.Fprintf(b, "| %s | %s |", ours, m.title)
	for _, name := range []string{kindHAProxy, kindPgBouncer, bestPeer, kindIOCopy, kindDirect} {
		fmt.Fprintf(b, " %s |", ratioOf(s[ours], others[name]))
	}
	fmt.Fprintf(b, " %s |\n", c.verdict(m, s[ours], others))
}
