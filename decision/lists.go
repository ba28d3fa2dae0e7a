package decision

// CriterionNames returns the closed list of criteria, in the order in which they are shown.
func CriterionNames() []string {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.name
	}
	return names
}
