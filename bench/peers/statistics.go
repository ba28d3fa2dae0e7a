package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// metric is a number that a workload yields.
type metric struct {
	key, title string
	muchIsGood bool
}

var metrics = []metric{
	{key: cpuPerTx, title: "CPU µs/tx"},
	{key: rate, title: "tx/s", muchIsGood: true},
	{key: median, title: "p50 µs"},
	{key: slowest, title: "p99 µs"},
	{key: throughput, title: "MB/s", muchIsGood: true},
	{key: cpuPerGB, title: "CPU s/GB"},
	{key: kibEach, title: "RSS KiB/session"},
}

// bestPeer stands for the better of HAProxy and PgBouncer.
const bestPeer = "best"

// aim is what a number of pgtether's is held against.
type aim struct {
	workload string
	clients  int // 0: any
	metric   string
	against  string  // a peer, or bestPeer; "": the number itself
	bound    float64 // at most; at least where much is good
}

var aims = []aim{
	{"select", 1, cpuPerTx, bestPeer, 1.1},
	{"select", 0, cpuPerTx, bestPeer, 1.0},
	{"select", 0, slowest, bestPeer, 1.0},
	{"tpcb", 0, cpuPerTx, bestPeer, 1.05},
	{"tls", 0, cpuPerTx, kindHAProxy, 1.15},
	{"copyout", 0, throughput, kindHAProxy, 0.95},
	{"copyin", 0, throughput, kindHAProxy, 0.95},
	{"copyout", 0, cpuPerGB, kindHAProxy, 1.2},
	{"copyin", 0, cpuPerGB, kindHAProxy, 1.0},
	{"connect", 0, rate, kindHAProxy, 0.95},
	{"connect", 0, cpuPerTx, kindHAProxy, 1.3},
	{"idle", 0, kibEach, "", 6},
}

// verdict says what is aimed at for a metric and whether it is reached; "" when nothing is. The ratio that counts is the median of those
// within the rounds.
func (c caseOf) verdict(m metric, ours map[int]float64, others map[string]map[int]float64) string {
	i := slices.IndexFunc(aims, func(a aim) bool {
		return a.workload == c.workload.name && (a.clients == 0 || a.clients == c.clients) && a.metric == m.key
	})
	if i < 0 {
		return ""
	}
	a := aims[i]
	found, of := middle(slices.Collect(maps.Values(ours))), ""
	if a.against != "" {
		found, of = middle(perRound(ours, others[a.against])), " of "+a.against
	}
	sign, reached := "≤", found <= a.bound
	if m.muchIsGood {
		sign, reached = "≥", found >= a.bound
	}
	word := "**missed**"
	switch {
	case math.IsNaN(found):
		word = "not measured"
	case reached:
		word = "reached"
	}
	return fmt.Sprintf("%s %s%s: %s", sign, strconv.FormatFloat(a.bound, 'g', -1, 64), of, word)
}

// middle is the median; not a number for no values.
func middle(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// spreadOf is the median with the least and the most.
func spreadOf(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(middle(values)), number(slices.Min(values)), number(slices.Max(values)))
}

// perRound are the ratios within each round in which both were measured, in the order of the rounds.
func perRound(ours, others map[int]float64) (ratios []float64) {
	for _, round := range slices.Sorted(maps.Keys(ours)) {
		if o, ok := others[round]; ok && o != 0 {
			ratios = append(ratios, ours[round]/o)
		}
	}
	return ratios
}

// best is the better of two in each round that has both.
func best(a, b map[int]float64, muchIsGood bool) map[int]float64 {
	out := map[int]float64{}
	for round, x := range a {
		y, ok := b[round]
		switch {
		case !ok:
		case muchIsGood:
			out[round] = max(x, y)
		default:
			out[round] = min(x, y)
		}
	}
	return out
}

// ratioOf is the ratio of the medians, and the median of the rounds' ratios with their spread.
func ratioOf(ours, others map[int]float64) string {
	ratios := perRound(ours, others)
	if len(ratios) == 0 {
		return "–"
	}
	medians := middle(slices.Collect(maps.Values(ours))) / middle(slices.Collect(maps.Values(others)))
	return fmt.Sprintf("%.2f, %.2f (%.2f–%.2f)", medians, middle(ratios), slices.Min(ratios), slices.Max(ratios))
}

// number prints three digits, or the whole number where it has more.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
