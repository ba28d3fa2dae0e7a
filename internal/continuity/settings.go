package continuity

import (
	"slices"
	"strings"
)

// reportedNames are the parameters that PostgreSQL 13 to 18 report to clients (GUC_REPORT). A server does not have all of them.
func reportedNames() []string {
	return []string{
		"application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby", "integer_datetimes",
		"IntervalStyle", "is_superuser", "scram_iterations", "search_path", "server_encoding", "server_version", "session_authorization",
		"standard_conforming_strings", "TimeZone",
	}
}

// fleeting are parameters of the running transaction, and those that are made again by other means.
func fleeting(name string) bool {
	switch strings.ToLower(name) {
	case "transaction_isolation", "transaction_read_only", "transaction_deferrable", "client_encoding", "role", "session_authorization":
		return true
	}
	return false
}

// late reports whether the parameter is set after all statements are prepared, for it could get in the way of that: it ends statements that take
// too long, makes transactions wait, makes the parser or the planner refuse, or makes the server talkative. None of them changes what a statement means.
func late(name string) bool {
	return strings.HasPrefix(name, "default_transaction_") || strings.HasSuffix(name, "_timeout") ||
		name == "row_security" || name == "client_min_messages" || name == "backslash_quote"
}

// trailing are client encodings in which a byte below 0x80 may be the second half of a character, so that a text cannot be read byte by byte.
func trailing(encoding string) bool {
	return slices.Contains([]string{"BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC"}, strings.ToUpper(encoding))
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
