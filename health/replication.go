package health

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pgtether/pgtether/decision"
)

// identity is what a physical replication connection tells.
type identity struct {
	systemID string
	timeline uint32
	// position is a primary's flush position, or the end of what a standby has received or replayed.
	position decision.Opt[decision.LSN]
	role     decision.Role
	// history is unknown when it was not asked for or could not be read.
	history decision.Opt[[]decision.TimelineSwitch]
	// historyGone is true when the server said that it has no such file.
	historyGone bool
}

// timelineKey names a history that cannot change: a server's files change only across its restart.
type timelineKey struct {
	server   string
	timeline uint32
}

// historyCache holds the last history that was read. Timelines change once in a blue moon; one entry is enough.
type historyCache struct {
	key     timelineKey
	history []decision.TimelineSwitch
}

func (c *historyCache) get(server decision.Opt[string], timeline uint32) decision.Opt[[]decision.TimelineSwitch] {
	if timeline == 1 {
		return decision.Some([]decision.TimelineSwitch{})
	}
	if server.Known && c.key == (timelineKey{server.V, timeline}) {
		return decision.Some(c.history)
	}
	return decision.Opt[[]decision.TimelineSwitch]{}
}

func (c *historyCache) put(server decision.Opt[string], timeline uint32, history []decision.TimelineSwitch) {
	if server.Known && timeline > 1 {
		c.key, c.history = timelineKey{server.V, timeline}, history
	}
}

// identify asks IDENTIFY_SYSTEM and, unless the timeline's history is the one that is already known, TIMELINE_HISTORY.
func (l *link) identify(ctx context.Context, known func(timeline uint32) bool) (identity, error) {
	var id identity
	rows, err := l.command(ctx, "IDENTIFY_SYSTEM")
	if err != nil {
		return id, err
	}
	if len(rows) != 1 {
		return id, errNoFacts
	}
	timeline, err := strconv.ParseUint(rows[0]["timeline"], 10, 32)
	if err != nil || timeline == 0 || !isSystemID(rows[0]["systemid"]) {
		return id, errNoFacts
	}
	id.systemID, id.timeline = rows[0]["systemid"], uint32(timeline)
	id.position = lsn(rows[0], "xlogpos")
	if id.role, err = l.roleOfServer(ctx); err != nil {
		return id, err
	}
	if id.timeline == 1 || known(id.timeline) {
		return id, nil
	}
	rows, err = l.command(ctx, "TIMELINE_HISTORY "+strconv.FormatUint(timeline, 10))
	if err != nil || len(rows) != 1 {
		id.historyGone = err != nil && isStatementError(err)
		return id, nil // what was identified stands
	}
	if history, err := ParseHistory(id.timeline, rows[0]["content"]); err == nil {
		id.history = decision.Some(history)
	}
	return id, nil
}

// roleOfServer reads what PostgreSQL 14 and later report at every login. On 13 a session that may write is on a primary; one that may not is
// on a standby, or on a primary with default_transaction_read_only.
func (l *link) roleOfServer(ctx context.Context) (decision.Role, error) {
	switch l.pg.ParameterStatus("in_hot_standby") {
	case "on":
		return decision.RoleStandby, nil
	case "off":
		return decision.RolePrimary, nil
	}
	rows, err := l.command(ctx, "SHOW transaction_read_only")
	switch {
	case err != nil && !isStatementError(err):
		return decision.RoleUnknown, err
	case err == nil && len(rows) == 1 && rows[0]["transaction_read_only"] == "off":
		return decision.RolePrimary, nil
	default:
		return decision.RoleUnknown, nil
	}
}

// command runs one replication command. Those know the simple protocol only.
func (l *link) command(ctx context.Context, text string) ([]row, error) {
	results := l.pg.Exec(ctx, text)
	var rows []row
	var err error
	if results.NextResult() {
		rows, err = readRows(results.ResultReader())
	}
	if err != nil && !isStatementError(err) {
		l.raw.Close() // or Close would read on, to the end of the round
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return rows, nil
}

// isSystemID reports whether text is a system identifier: an unsigned 64-bit number, not 0.
func isSystemID(text string) bool {
	n, err := strconv.ParseUint(text, 10, 64)
	return err == nil && n != 0
}
