package config

import "reflect"

// unbuilt is a key of the document whose feature this version does not have. Setting it to anything but its default is refused, so that nobody
// believes to be protected by something that does not happen.
type unbuilt struct {
	// missing says what this version does not do.
	missing string
}

const (
	noReadPath   = "there is no listener that leads to standbys"
	noSeveral    = "several proxies cannot share their state"
	noHooks      = "no hook is run"
	noMoves      = "sessions are not moved to a new writer, they end"
	noDurability = "synchronous_commit is forwarded as the application sets it"
)

// unbuiltKeys is the one list of what the document can say and this version cannot do. Whoever builds a feature deletes its rows here and
// the remark in docs/CONFIGURATION.md; a test holds the two together.
var unbuiltKeys = map[string]unbuilt{
	"read.address":             {missing: noReadPath},
	"read.max_lag":             {missing: noReadPath},
	"node.agent":               {missing: "there is no agent beside PostgreSQL"},
	"continuity.mode":          {missing: noMoves},
	"continuity.moves_at_once": {missing: noMoves},
	"durability.floor":         {missing: noDurability},
	"hooks.fence":              {missing: noHooks},
	"hooks.on_event":           {missing: noHooks},
	"hooks.timeout":            {missing: noHooks},
	"etcd.endpoints":           {missing: noSeveral},
	"etcd.prefix":              {missing: noSeveral},
}

// defaultOnly says in the documentation what may be written for a key that is not built.
const defaultOnly = "default only"

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
		if value := literal(v); value != defaults[key] {
			r.refuse(path, "%s is not in this version (%s); remove the key", value, u.missing)
		}
	})
}
