// Package follow shows, on real pairs that others run behind the built binary, that pgtether in mode observe follows, holds and cuts, and
// never promotes: a pair of Patroni with etcd, and a pair of repmgr. It holds tests only.
package follow
