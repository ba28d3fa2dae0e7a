package metrics

import "slices"

// Labels are the closed lists that belong to other rooms. Each becomes one pre-registered series per value. Order and duplicates do not matter.
type Labels struct {
	// Version and Revision describe the build in pgtether_build_info.
	Version, Revision string
	// Nodes are the configured node names.
	Nodes []string
	// States are the failover states, Criteria the names of the decision's criteria, Steps the steps of a change of writer.
	States, Criteria, Steps []string
	// Reasons are the refusals on the wire, Ends the reasons for which a session ended.
	Reasons, Ends []string
	// LoginResults, CancelResults and MoveResults say how a login, a cancel request and the move of a session came out.
	LoginResults, CancelResults, MoveResults []string
}

// The closed lists that the contract with dashboards fixes. They are the words of GET /status.
var (
	evidences     = []string{"answers", "alive", "silent", "refused", "unknown"}
	roles         = []string{"primary", "standby", "unknown"}
	changeKinds   = []string{"failover", "switchover", "adopted"}
	losslessWords = []string{"proven", "relaxed", "bounded", "unknown"}
	sessionStates = []string{"open", "active", "idle", "in_transaction", "held", "read", "opaque"}
)

// closed returns the list sorted and without duplicates, so that the same lists always give the same exposition.
func closed(values []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(values)))
}
