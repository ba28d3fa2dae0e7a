package decision

import (
	"fmt"
	"strings"
	"time"
)

// PlanStep says what one step of a switchover would do.
type PlanStep struct {
	Step Step
	Does string
}

// Plan says, step by step, what a switchover would do now, and why it would be refused, if it would. It changes nothing.
func (e *Engine) Plan(c Switch) ([]PlanStep, Opt[Refusal]) {
	_, refusal := e.judgeSwitch(c)
	return e.planSteps(c), refusal
}

// planSteps tells the steps of the order, be it refused or not, in the order in which they would be taken.
func (e *Engine) planSteps(c Switch) []PlanStep {
	old := e.rec.Writer.Node
	late := "the switchover is undone, and every session goes on as if nothing had happened"
	if c.Force {
		late = "those that are still in a transaction are cut off (08006, or 08007 where a commit is unanswered)"
	}
	return []PlanStep{
		{Checking, fmt.Sprintf("the order is made durable; new logins wait from here on (hold.login, then 57P03); %s and %s are asked once more, and every "+
			"criterion is judged again", old, c.To)},
		{Draining, fmt.Sprintf("open transactions have %s to end; a session that is idle, or becomes idle, waits with its backend kept; after that %s", e.drainOf(c), late)},
		{Cutting, fmt.Sprintf("every path to %s is closed for good; sessions that can be moved wait on, each of the others ends with 08006, one after the other", old)},
		{Reprobing, old + " is asked for its position"},
		{Fencing, e.fencePlan(old)},
		{Sampling, fmt.Sprintf("%s must replay the last position of %s within %s; a failure up to here returns to %s, under a fresh epoch", c.To, old, settleWithin, old)},
		{StepPromoting, fmt.Sprintf("the point of no return: the promotion of %s is made durable, with nothing lost proven, and asked for; at most %s", c.To,
			e.cfg.PromoteTimeout.Round(time.Second))},
		{Verifying, fmt.Sprintf("%s shows that its timeline continues that of %s at or after its end, and that it commits", c.To, old)},
		{Opening, fmt.Sprintf("epoch %d is opened on %s, sessions that wait are moved there, logins that wait are let go at a growing rate, and %s makes a "+
			"checkpoint; %s is then to be made a standby of it by hand (pgtether prints how)", e.rec.Epoch+1, c.To, c.To, old)},
	}
}

// fencePlan says how the old writer would be fenced.
func (e *Engine) fencePlan(old string) string {
	sql := fmt.Sprintf("new transactions on %s are made read-only and its remaining sessions are ended (ALTER SYSTEM SET default_transaction_read_only); it goes on "+
		"writing its own records, so that it will need pg_rewind", old)
	if e.cfg.FenceHook {
		return sql + "; then hooks.fence is run, and its word counts: one that stops the server cleanly spares the rewind"
	}
	return sql
}

// Rejoin says how to make a node a standby of the writer again, one command or remark per line, to be run on that node as the account that owns
// $PGDATA, its data directory. It is what docs/OPERATIONS.md explains.
func Rejoin(node, writer Node) []string {
	host, port := writer.Address, "5432"
	if i := strings.LastIndexByte(writer.Address, ':'); i >= 0 {
		host, port = strings.Trim(writer.Address[:i], "[]"), writer.Address[i+1:]
	}
	at := fmt.Sprintf("host=%s port=%s", host, port)
	return []string{
		fmt.Sprintf("# on %s:", node.Name),
		`pg_ctl -D "$PGDATA" stop -m fast`,
		`cp -a "$PGDATA/postgresql.conf" "$PGDATA/pg_hba.conf" /var/tmp/   # where they are in the data directory`,
		fmt.Sprintf(`psql '%s dbname=postgres' -c CHECKPOINT`, at),
		fmt.Sprintf(`pg_rewind --target-pgdata "$PGDATA" --source-server '%s user=postgres dbname=postgres' --write-recovery-conf --progress`, at),
		`cp -a /var/tmp/postgresql.conf /var/tmp/pg_hba.conf "$PGDATA/"`,
		`pg_ctl -D "$PGDATA" start`,
		fmt.Sprintf(`psql -c "ALTER SYSTEM SET primary_conninfo = '%s user=REPLICATION_ROLE'" -c 'ALTER SYSTEM RESET primary_slot_name' -c 'SELECT pg_reload_conf()'`, at),
		"# if pg_rewind refuses, copy the node anew with pg_basebackup",
	}
}
