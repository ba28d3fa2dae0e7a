package health

import (
	"context"
	"fmt"
)

// LookupVerifier asks the function of configs/sql/verifier-lookup.sql on the node for the SCRAM verifier of a role. false means that the role
// has none that may be used. function is "schema.name", as the configuration allows it, and becomes part of the statement; role does not.
// It makes one connection and ends by the deadline of ctx, or by the target's timeout.
func LookupVerifier(ctx context.Context, t Target, function, role string) (verifier string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	l, err := connect(ctx, t, false)
	defer l.close(ctx)
	if err != nil {
		return "", false, fmt.Errorf("connect to %s: %w", t.Node, err)
	}
	result := l.pg.ExecParams(ctx, "SELECT "+function+"($1)", [][]byte{[]byte(role)}, nil, nil, nil).Read()
	if result.Err != nil {
		return "", false, fmt.Errorf("call %s on %s: %w", function, t.Node, result.Err)
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 || result.Rows[0][0] == nil {
		return "", false, nil
	}
	return string(result.Rows[0][0]), true, nil
}
