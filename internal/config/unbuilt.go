package config

import "reflect"

const (
	noReadPath   = "there is no listener that leads to standbys"
	noSeveral    = "several proxies cannot share their state"
	noDurability = "synchronous_commit is forwarded as the application sets it"
)

// unbuiltKeys is the one list of what the document can say and this version cannot do, with what it does not do. Setting such a key to other
// than its default is refused, so that nobody believes to be protected by something that does not happen. Whoever builds a feature deletes
// its rows here and the remark in docs/CONFIGURATION.md; a test holds the two together.
var unbuiltKeys = map[string]string{
	"read.address":     noReadPath,
	"read.max_lag":     noReadPath,
	"node.agent":       "there is no agent beside PostgreSQL",
	"durability.floor": noDurability,
	"etcd.endpoints":   noSeveral,
	"etcd.prefix":      noSeveral,
}

// defaultOnly says in the documentation what may be written for such a key.
const defaultOnly = "default only"

// refuseUnbuilt reports every key that is set to what this version cannot do.
func refuseUnbuilt(f *File, r *report) {
	defaults := map[string]string{}
	for _, k := range Keys() {
		defaults[k.Path] = k.Default
	}
	walk(f, func(path string, _ reflect.StructField, v reflect.Value) {
		key := withoutIndices(path)
		missing, ok := unbuiltKeys[key]
		if value := literal(v); ok && !r.refused(path) && value != defaults[key] {
			r.refuse(path, "%s is not in this version (%s); remove the key", value, missing)
		}
	})
}
