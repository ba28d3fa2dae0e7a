package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	stateDesc      = prometheus.NewDesc("pgtether_state", "1 for the failover state that holds now, 0 for the others.", []string{"state"}, nil)
	epochDesc      = prometheus.NewDesc("pgtether_epoch", "The epoch of the writer; 0 while none was ever adopted.", nil, nil)
	writesOpenDesc = prometheus.NewDesc("pgtether_writes_open", "1 while logins are routed to a proven writer.", nil, nil)
	nodeUpDesc     = prometheus.NewDesc("pgtether_node_up", "1 when the node answered its last probe round.", []string{"node"}, nil)
	nodeRoleDesc   = prometheus.NewDesc("pgtether_node_role", "1 for what the node says it is, 0 for the others.", []string{"node", "role"}, nil)
	nodeLagDesc    = prometheus.NewDesc("pgtether_node_lag_bytes", "Bytes of WAL that the standby has not received; NaN when unknown.",
		[]string{"node"}, nil)
	criterionDesc = prometheus.NewDesc("pgtether_criterion_pass", "1 when the criterion passes or is not needed; one that an operator overrides does not pass by that.",
		[]string{"criterion", "node"}, nil)
	lossDesc = prometheus.NewDesc("pgtether_failover_data_loss_bytes", "Bytes of WAL that a crash of the writer now could lose; NaN when unknown.",
		nil, nil)
)

// statusCollector turns one snapshot per scrape into gauges.
type statusCollector struct {
	control                 *Control
	states, nodes, criteria []string
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, epochDesc, writesOpenDesc, nodeUpDesc, nodeRoleDesc, nodeLagDesc, criterionDesc, lossDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := Snapshot{LossBytes: Unknown()}
	if snapshot := c.control.snapshot.Load(); snapshot != nil {
		s = (*snapshot)()
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, state := range c.states {
		gauge(stateDesc, oneIf(state == s.State), state)
	}
	gauge(epochDesc, float64(s.Epoch))
	gauge(writesOpenDesc, oneIf(s.WritesOpen))
	gauge(lossDesc, s.LossBytes)
	for _, name := range c.nodes {
		n := nodeOf(s.Nodes, name)
		gauge(nodeUpDesc, oneIf(n.Up), name)
		gauge(nodeLagDesc, n.LagBytes, name)
		for _, role := range roles {
			gauge(nodeRoleDesc, oneIf(role == n.Role), name, role)
		}
	}
	for _, criterion := range c.pairs(s.Criteria) {
		gauge(criterionDesc, oneIf(criterion.Pass), criterion.Name, criterion.Node)
	}
}

// nodeOf finds a node of the snapshot; one that is not there is unknown.
func nodeOf(nodes []Node, name string) Node {
	if i := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name }); i >= 0 {
		return nodes[i]
	}
	return Node{Name: name, Role: "unknown", LagBytes: Unknown()}
}

// pairs returns the listed criteria of the snapshot, each pair of name and node once: pass only if every entry of the pair passes. A criterion
// that was not evaluated appears without a node and does not pass.
func (c *statusCollector) pairs(evaluated []Criterion) []Criterion {
	var out []Criterion
	for _, name := range c.criteria {
		first := len(out)
		for _, e := range evaluated {
			if e.Name != name || (e.Node != "" && !slices.Contains(c.nodes, e.Node)) {
				continue
			}
			i := slices.IndexFunc(out[first:], func(o Criterion) bool { return o.Node == e.Node })
			if i < 0 {
				out = append(out, e)
				continue
			}
			out[first+i].Pass = out[first+i].Pass && e.Pass
		}
		if len(out) == first {
			out = append(out, Criterion{Name: name})
		}
	}
	return out
}
