// Package runbooks does what docs/OPERATIONS.md says, on real servers: every sh block of that page carries a name (```sh run=NAME), is run as
// it stands by `bash -euo pipefail` as the account that owns the servers, and what it led to is looked at afterwards.
//
// The machines of the page are loopback addresses here, with the same last number. The names of folders, the ports and the one version of
// PostgreSQL are replaced, and `systemctl` is a script that starts and stops the server in $PGDATA, or pgtether; PostgreSQL's
// programs do not wait for the disk. Nothing else of a block is
// changed, and none is left out: TestEveryBlockIsRun fails for a block without a name, and for one that no story runs.
package runbooks
