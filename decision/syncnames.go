package decision

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// putSyncBack asks for synchronous_standby_names to be set back on the writer where pgtether emptied it, once a standby that it names streams
// and has caught up. A list that does not name that standby would make every commit hang, so it stays empty, and that is said.
func (e *Engine) putSyncBack(s *sight) {
	w := e.writerView()
	names := e.rec.SyncNames
	if names == "" || w == nil || !e.state.open() || s.situation != sitWell || e.restore.busy || e.class(w) != classPrimary {
		return
	}
	senders, ok := w.obs.Senders.Get()
	if !ok || e.restore.sent.Known && e.now.Sub(e.restore.sent.V) < askAgain {
		return
	}
	for i := range e.views {
		v := &e.views[i]
		row := e.senderOf(senders, v.node)
		if v == w || row == nil || row.State != receiverStreaming || e.standbyLacks(v) != "" {
			continue
		}
		if !namesStandby(names, row.ApplicationName) {
			e.saySync(fmt.Sprintf("synchronous_standby_names was %q and is not put back on %s: it does not name %q, and every commit would wait", names,
				w.node.Name, row.ApplicationName))
			continue
		}
		a := RestoreSync{Header: e.head("standby_streams"), Node: w.node.Name, Address: w.node.Address, Names: names}
		e.restore = errand{id: a.ID, busy: true, sent: Some(e.now)}
		e.emit(a)
		return
	}
}

// syncRestored takes the outcome.
func (e *Engine) syncRestored(o Outcome) {
	e.restore.take(o)
	if !o.OK() {
		e.saySync("synchronous_standby_names could not be put back: " + o.Err)
		return
	}
	e.remark(NoteStep, "standby_streams", []Operand{{"node", e.rec.Writer.Node}, {"synchronous_standby_names", e.rec.SyncNames}},
		"synchronous_standby_names is put back on %s: its standby streams", e.rec.Writer.Node)
	e.rec.SyncNames, e.dirty, e.syncSaid = "", true, ""
}

// saySync notes why the names are not put back, once.
func (e *Engine) saySync(why string) {
	if why == e.syncSaid {
		return
	}
	e.syncSaid = why
	e.remark(NoteStep, "synchronous_standby_names", nil, "%s", why)
}

// namesStandby says whether a value of synchronous_standby_names names a standby ("*", a list, FIRST n (list), ANY n (list)).
func namesStandby(value, applicationName string) bool {
	_, names := splitNames(value)
	return slices.ContainsFunc(names, func(name string) bool { return name == "*" || strings.EqualFold(name, applicationName) })
}

// quorumIsAll says whether ANY n (list) waits for every standby that it can name, of which so many stream now. Else a commit may have been confirmed by
// the others alone: by an archive that receives under one of the names, for instance.
func quorumIsAll(value string, streaming int) bool {
	method, names := splitNames(value)
	words := strings.Fields(method)
	if len(words) != 2 || !strings.EqualFold(words[0], "ANY") || slices.Contains(names, "*") {
		return false
	}
	n, err := strconv.Atoi(words[1])
	return err == nil && len(names) <= n && streaming <= n
}

// splitNames takes a value of synchronous_standby_names apart: what stands before its list, if anything, and the list. A name with a comma in it, which
// is nobody's, becomes two.
func splitNames(value string) (method string, names []string) {
	value = strings.TrimSpace(value)
	if open := strings.IndexByte(value, '('); open >= 0 && strings.HasSuffix(value, ")") {
		method, value = value[:open], value[open+1:len(value)-1]
	}
	for name := range strings.SplitSeq(value, ",") {
		names = append(names, strings.Trim(strings.TrimSpace(name), `"`))
	}
	return method, names
}
