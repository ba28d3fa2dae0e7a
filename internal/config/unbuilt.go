package config

import (
	"reflect"
	"slices"
	"strings"
)

// unbuilt is a key of the document whose feature this version does not have, wholly or in part. Setting it is refused, so that nobody
// believes to be protected by something that does not happen.
type unbuilt struct {
	// accepts are the values that this version takes, in the notation of the file; without any, the default alone.
	accepts []string
	// missing says what this version does not do.
	missing string
}

const (
	noPromotion  = "pgtether does not promote"
	noReadPath   = "there is no listener that leads to standbys"
	noSeveral    = "several proxies cannot share their state"
	noMoves      = "sessions are not moved to a new writer, they end"
	noDurability = "synchronous_commit is forwarded as the application sets it"
)

// unbuiltKeys is the one list of what the document can say and this version cannot do. Whoever builds a feature deletes its rows here and
// the remark in docs/CONFIGURATION.md; a test holds the two together.
var unbuiltKeys = map[string]unbuilt{
	"failover.mode":             {accepts: []string{`"observe"`}, missing: noPromotion},
	"failover.require_lossless": {missing: noPromotion},
	"failover.require_fence":    {missing: noPromotion},
	"failover.anti_flap":        {missing: noPromotion},
	"failover.promote_timeout":  {missing: noPromotion},
	"read.address":              {missing: noReadPath},
	"read.max_lag":              {missing: noReadPath},
	"node.agent":                {missing: "there is no agent beside PostgreSQL"},
	"continuity.mode":           {missing: noMoves},
	"continuity.moves_at_once":  {missing: noMoves},
	"durability.floor":          {missing: noDurability},
	"etcd.endpoints":            {missing: noSeveral},
	"etcd.prefix":               {missing: noSeveral},
}

// acceptsText says in the documentation what may be written.
func (u unbuilt) acceptsText() string {
	if len(u.accepts) == 0 {
		return "default only"
	}
	return strings.Join(u.accepts, ", ") + " only"
}

// refuseUnbuilt reports every key that is set to what this version cannot do.
func refuseUnbuilt(f *File, r *report) {
	defaults := map[string]string{}
	for _, k := range Keys() {
		defaults[k.Path] = k.Default
	}
	walk(f, func(path string, _ reflect.StructField, v reflect.Value) {
		key := withoutIndices(path)
		u, ok := unbuiltKeys[key]
		if !ok || r.refused(path) {
			return
		}
		value, set := literal(v), r.lines[path] > 0
		switch {
		case len(u.accepts) > 0 && slices.Contains(u.accepts, value), len(u.accepts) == 0 && value == defaults[key]:
		case len(u.accepts) > 0 && !set:
			r.refuse(path, "the default %s is not in this version (%s); write %s", value, u.missing, assignment(key, u.accepts[0]))
		case len(u.accepts) > 0:
			r.refuse(path, "%s is not in this version (%s); write %s", value, u.missing, assignment(key, u.accepts[0]))
		default:
			r.refuse(path, "%s is not in this version (%s); remove the key", value, u.missing)
		}
	})
}

// assignment is what to write, in words that say where.
func assignment(key, value string) string {
	section, name, _ := strings.Cut(key, ".")
	return name + " = " + value + " in [" + section + "]"
}
