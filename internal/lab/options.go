package lab

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Names of the two nodes of every lab; with Options.Single only RegionA exists.
const (
	RegionA = "region-a"
	RegionB = "region-b"
)

// TLSMode says whether the nodes offer TLS and with which certificates.
type TLSMode uint8

const (
	// TLSOff: ssl = off.
	TLSOff TLSMode = iota
	// TLSShared: both nodes present the same certificate and key, which a proxy may present too. This is the way in which
	// SCRAM channel binding (tls-server-end-point hashes the certificate) survives a relay that terminates TLS.
	TLSShared
	// TLSPerNode: each node has a certificate of its own from the same authority.
	TLSPerNode
)

// Options of a lab. The zero value is a primary and a hot standby, replicating asynchronously, without TLS.
type Options struct {
	// Dir is where the lab's temporary directory is made; default: environment PGTETHER_LAB_DIR, else os.TempDir. The server
	// account must be able to enter it. On a tmpfs (/dev/shm) a pair starts in a second instead of two; it then lives in memory.
	Dir string
	// BinDir holds the PostgreSQL programs (initdb and postgres at least). Default: environment PGTETHER_LAB_BINDIR, else
	// the highest version found under /usr/lib/postgresql, by pg_config, or in PATH.
	BinDir string

	// Single starts region-a alone.
	Single bool
	// External starts no server: a cluster manager that is not ours, Patroni for instance, runs them in the lab's directory. See Spawn.
	External bool
	// Synchronous makes region-a wait for region-b at every commit. Each node's synchronous_standby_names names the other
	// one, as configuration management usually leaves it: a promoted standby then hangs its commits until that is changed.
	Synchronous bool
	// RelayReplication leads each standby's connection to its primary through a relay (Node.ReplicationRelay), so that the
	// two can be parted.
	RelayReplication bool
	// Archive lets every node archive to, and restore from, a directory of the lab.
	Archive bool
	// SteppedClocks lets Node.StepClock set a server's wall clock; it needs libfaketime.
	SteppedClocks bool
	// TLS on the nodes; sslmode of the application stays a matter of the DSN.
	TLS TLSMode

	// MaxConnections of every node; default 100.
	MaxConnections int
	// Settings are added to every node's postgresql.conf; they win over the lab's own.
	Settings map[string]string
	// NodeSettings are added to one node's postgresql.conf, by node name; they win over Settings.
	NodeSettings map[string]map[string]string
	// HBA lines come after the lab's own lines for the superuser and for its replication role and before all others.
	HBA []string
	// Addresses gives a node a loopback address of its own, as "127.0.0.11" (a free port is chosen) or "127.0.0.11:5432".
	Addresses map[string]string

	// AppUser, AppPassword and AppDatabase default to "keycloak". The database belongs to the user.
	AppUser, AppPassword, AppDatabase string
	// AppAuth is the pg_hba.conf method for the application role: scram-sha-256 (default), md5 (the password is then stored
	// as MD5), password or trust.
	AppAuth string

	// ProbeUser defaults to "pgtether", ProbePassword to a random one.
	ProbeUser, ProbePassword string
	// ProbeRoleSQL is the path of configs/sql/probe-role.sql, run through psql to create the probe role. Default: the file
	// of the enclosing module, if the working directory is inside it and the file exists; without one there is no probe role.
	ProbeRoleSQL string
	// ProbeRoleScript is the text of that file, for programs that carry it; it wins over ProbeRoleSQL.
	ProbeRoleScript string

	// Log tells what the lab does, at debug level; default none.
	Log *slog.Logger
}

var (
	settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
	appAuths    = []string{"scram-sha-256", "md5", "password", "trust"}
)

func (o Options) withDefaults() Options {
	o.Dir = cmp.Or(o.Dir, os.Getenv("PGTETHER_LAB_DIR"))
	o.MaxConnections = cmp.Or(o.MaxConnections, 100)
	o.AppUser = cmp.Or(o.AppUser, "keycloak")
	o.AppPassword = cmp.Or(o.AppPassword, "keycloak")
	o.AppDatabase = cmp.Or(o.AppDatabase, "keycloak")
	o.AppAuth = cmp.Or(o.AppAuth, "scram-sha-256")
	o.ProbeUser = cmp.Or(o.ProbeUser, "pgtether")
	o.ProbePassword = cmp.Or(o.ProbePassword, randomSecret())
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	known := []string{RegionA, RegionB}
	if o.Single {
		known = known[:1]
		if o.Synchronous {
			errs = append(errs, errors.New("synchronous replication needs a standby: Single and Synchronous exclude each other"))
		}
	}
	if o.External && (o.Single || o.Synchronous || o.Archive || o.TLS != TLSOff) {
		errs = append(errs, errors.New("servers that others run are not the lab's to shape: External excludes Single, Synchronous, Archive and TLS"))
	}
	if o.MaxConnections < 10 {
		errs = append(errs, fmt.Errorf("max_connections %d: the lab itself needs some, want at least 10", o.MaxConnections))
	}
	if !slices.Contains(appAuths, o.AppAuth) {
		errs = append(errs, fmt.Errorf("application authentication %q: want one of %s", o.AppAuth, strings.Join(appAuths, ", ")))
	}
	if o.TLS > TLSPerNode {
		errs = append(errs, fmt.Errorf("TLS mode %d: want TLSOff, TLSShared or TLSPerNode", o.TLS))
	}
	errs = append(errs, validateSettings("every node", o.Settings))
	for _, name := range slices.Sorted(maps.Keys(o.NodeSettings)) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("settings for unknown node %q: want one of %s", name, strings.Join(known, ", ")))
		}
		errs = append(errs, validateSettings(name, o.NodeSettings[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Addresses)) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("address for unknown node %q: want one of %s", name, strings.Join(known, ", ")))
		}
		if _, _, err := splitAddress(o.Addresses[name]); err != nil {
			errs = append(errs, fmt.Errorf("address of node %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func validateSettings(owner string, settings map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !settingName.MatchString(name) {
			return fmt.Errorf("setting %q of %s: not the name of a PostgreSQL parameter", name, owner)
		}
		if strings.ContainsAny(settings[name], "\n\r\x00") {
			return fmt.Errorf("setting %s of %s: the value may not contain line ends", name, owner)
		}
	}
	return nil
}

// splitAddress takes "ip" or "ip:port"; port 0 means any free one. Only loopback is allowed: the lab's servers have known
// passwords.
func splitAddress(address string) (ip string, port int, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		host, portText = address, "0"
	}
	parsed := net.ParseIP(host)
	if parsed == nil || !parsed.IsLoopback() {
		return "", 0, fmt.Errorf("%q: want a loopback IP address, with or without a port", address)
	}
	port, err = strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q: port out of range", address)
	}
	return host, port, nil
}

// randomSecret returns 128 bits in hexadecimal.
func randomSecret() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}
