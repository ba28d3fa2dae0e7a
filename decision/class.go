package decision

// class is what one probe round of one node means. Only classFailing can ever become "dead".
type class uint8

const (
	// classUnknown: never probed, the facts are stale, or the prober itself was late.
	classUnknown class = iota
	// classFailing: every way in was silent or refused.
	classFailing
	// classStarting: the server says that it starts up or shuts down (57P03, 57P01, 57P02).
	classStarting
	// classBlind: the server lives and refuses the probe's login (28xxx, 3D000, 42501, 55000).
	classBlind
	// classBusy: the server lives and does not say what it is (53300, or only the replication connection answered).
	classBusy
	// classStandby: the server answers and is in recovery.
	classStandby
	// classPrimary: the server answers and is out of recovery.
	classPrimary
)

// String returns the word used in operands.
func (c class) String() string {
	switch c {
	case classFailing:
		return "failing"
	case classStarting:
		return "starting"
	case classBlind:
		return "refuses_probe"
	case classBusy:
		return "busy"
	case classStandby:
		return "standby"
	case classPrimary:
		return "primary"
	default:
		return "unknown"
	}
}

// tellsRole says whether the round settled what the node is.
func (c class) tellsRole() bool { return c == classStandby || c == classPrimary }

// classify reads one round. Silence during which the prober was late proves nothing about the node.
func classify(o Observation) class {
	switch o.Evidence() {
	case Answers:
		switch o.Role {
		case RolePrimary:
			return classPrimary
		case RoleStandby:
			return classStandby
		}
		if refusesProbe(o.Fresh) {
			return classBlind
		}
		return classBusy
	case Alive:
		switch {
		case notServing(o.Fresh) || notServing(o.Persistent) || notServing(o.Replication):
			return classStarting
		case refusesProbe(o.Fresh):
			return classBlind
		}
		return classBusy
	case Silent, Refused:
		if !o.ProberStalled {
			return classFailing
		}
	}
	return classUnknown
}

// notServing says whether the answer was that the server starts up or shuts down.
func notServing(a Attempt) bool {
	return a.Evidence == Alive && (a.SQLState == "57P03" || a.SQLState == "57P01" || a.SQLState == "57P02")
}

// refusesProbe says whether the answer was about the probe's own login: wrong password, no such database, no privilege.
func refusesProbe(a Attempt) bool {
	if a.Evidence != Alive {
		return false
	}
	switch a.SQLState {
	case "3D000", "42501", "55000":
		return true
	}
	return len(a.SQLState) == 5 && a.SQLState[:2] == "28"
}

// detail says in words what each way in yielded.
func detail(o Observation) string {
	text := ""
	for _, w := range []struct {
		name string
		a    Attempt
	}{{"fresh", o.Fresh}, {"persistent", o.Persistent}, {"replication", o.Replication}} {
		if w.a.Evidence == EvidenceUnknown && w.a.Detail == "" {
			continue
		}
		if text != "" {
			text += "; "
		}
		text += w.name + ": " + w.a.Evidence.String()
		if w.a.SQLState != "" {
			text += " " + w.a.SQLState
		}
		if w.a.Detail != "" {
			text += " (" + w.a.Detail + ")"
		}
	}
	if o.ProberStalled {
		if text != "" {
			text += "; "
		}
		text += "the prober itself was late"
	}
	return text
}
