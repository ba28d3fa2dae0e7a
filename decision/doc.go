// Package decision decides which node may receive writes.
package decision
