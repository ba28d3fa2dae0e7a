package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// verdict prints what all switchovers came to, asks a Keycloak that was started anew whether what was acknowledged still holds, and is an error
// if any promise was broken.
func (s *show) verdict(ctx context.Context, log string) (err error) {
	results := s.flow.since(time.Time{})
	failed := failures(results)
	fmt.Println()
	s.say("%d requests in all, %d failed, %d were due while every visitor waited", len(results), failed, s.flow.unsent)
	for _, line := range kinds(results) {
		s.breaks("%s", line)
	}
	// Nothing that this one says comes out of a cache that outlived the changes.
	fresh, err := s.server.again(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fresh.stop()) }()
	sound := 0
	for _, f := range s.facts {
		if err := f.hold(ctx, fresh.base); err != nil {
			s.breaks("security, asked of a Keycloak started anew: %v", err)
			continue
		}
		sound++
	}
	s.say("a Keycloak started anew agrees for %d of %d switchovers: the user who logged out is out, the disabled one cannot log in, the changed password works and the old one does not",
		sound, len(s.facts))
	s.figures(failed)
	if s.broken > 0 {
		return fmt.Errorf("%d promises broken", s.broken)
	}
	return nil
}

// kinds says how often each kind of request failed with what.
func kinds(results []result) (lines []string) {
	count, example := map[string]int{}, map[string]string{}
	for _, r := range results {
		if r.ok() {
			continue
		}
		kind := fmt.Sprintf("%s: status %d", r.what, r.status)
		if count[kind]++; example[kind] == "" {
			example[kind] = fmt.Sprintf("%s, %d ms after it was sent", strings.Join(strings.Fields(r.said), " "), r.ended.Sub(r.began).Milliseconds())
		}
	}
	for kind, n := range count {
		lines = append(lines, fmt.Sprintf("%d times %s (at %s)", n, kind, example[kind]))
	}
	slices.Sort(lines)
	return lines
}

// figures prints the summary.
func (s *show) figures(failed int) {
	kept, before := 0, 0
	for i := range s.kept {
		kept, before = kept+s.kept[i], before+s.before[i]
	}
	var silent, slow []time.Duration
	for _, st := range s.stalls {
		silent, slow = append(silent, st.silence), append(slow, st.slowest.ended.Sub(st.slowest.began))
	}
	slices.Sort(silent)
	slices.Sort(slow)
	slices.Sort(s.took)
	fmt.Printf("\n%d switchovers, %d promises broken\n", len(s.stalls), s.broken)
	fmt.Printf("  failed requests     %d\n", failed)
	fmt.Printf("  sessions kept       %d of %d\n", kept, before)
	if n := len(s.stalls); n > 0 {
		fmt.Printf("  nothing completed   median %d ms, max %d ms\n", silent[n/2].Milliseconds(), silent[n-1].Milliseconds())
		fmt.Printf("  slowest request     median %d ms, max %d ms\n", slow[n/2].Milliseconds(), slow[n-1].Milliseconds())
		fmt.Printf("  the change itself   median %d ms, max %d ms\n", s.took[n/2], s.took[n-1])
	}
}
