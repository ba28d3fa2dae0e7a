package lab

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// baseSettings are what every node starts from. Replication and recovery are as a site would have them; only what costs time
// or leaves something behind on the machine differs.
func (n *Node) baseSettings() map[string]string {
	o := n.lab.opts
	s := map[string]string{
		"listen_addresses":        n.ip,
		"port":                    strconv.Itoa(n.port),
		"unix_socket_directories": "", // no file outside the directory, no way in that pg_hba.conf does not see
		"cluster_name":            n.name,
		"max_connections":         strconv.Itoa(o.MaxConnections),
		"shared_buffers":          "64MB",
		// Kept inside the data directory, so that a killed server leaves nothing in /dev/shm.
		"dynamic_shared_memory_type": "mmap",
		"fsync":                      "off", // processes die here, machines do not

		"wal_level":                    "replica",
		"wal_log_hints":                "on", // pg_rewind
		"max_wal_senders":              "10",
		"max_replication_slots":        "10",
		"hot_standby":                  "on",
		"track_commit_timestamp":       "on",
		"wal_receiver_timeout":         "4s", // the standby is a witness of the primary's death only with a low one
		"wal_receiver_status_interval": "1s",
		"wal_retrieve_retry_interval":  "500ms",

		"log_line_prefix":             "%m [%p] %q%u@%d ",
		"log_timezone":                "UTC",
		"timezone":                    "UTC",
		"lc_messages":                 "C",
		"log_connections":             "off",
		"log_min_duration_statement":  "-1",
		"log_recovery_conflict_waits": "on",
	}
	if n.lab.install.major < 14 {
		delete(s, "log_recovery_conflict_waits")
	}
	if o.AppAuth == "md5" {
		s["password_encryption"] = "md5"
	}
	if o.Archive {
		archive := filepath.Join(n.lab.dir, "archive")
		s["archive_mode"] = "on"
		s["archive_command"] = fmt.Sprintf(`test ! -f "%[1]s/%%f" && cp "%%p" "%[1]s/%%f"`, archive)
		s["restore_command"] = fmt.Sprintf(`cp "%s/%%f" "%%p"`, archive)
	}
	return s
}

// settings merges what the node's postgresql.conf says: base, then everybody's, then the node's own, then later changes.
func (n *Node) settings() map[string]string {
	merged := n.baseSettings()
	if tls := n.lab.tls; tls != nil {
		merged["ssl"] = "on"
		merged["ssl_ca_file"] = tls.CAFile
		merged["ssl_cert_file"], merged["ssl_key_file"] = tls.ServerFiles(n.name)
	}
	if n.lab.opts.Synchronous && n.synchronousWith != "" {
		merged["synchronous_standby_names"] = `"` + n.synchronousWith + `"`
	}
	maps.Copy(merged, n.lab.opts.Settings)
	maps.Copy(merged, n.lab.opts.NodeSettings[n.name])
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(merged, n.changed)
	return merged
}

// writeConfig writes postgresql.conf and pg_hba.conf. It does so before every start, because a base backup and pg_rewind bring
// the other node's files, port included. ALTER SYSTEM is not touched: postgresql.auto.conf still wins, as for a DBA.
func (n *Node) writeConfig() error {
	var conf strings.Builder
	conf.WriteString("# Written by the lab before every start. Change it with Options.Settings, Node.Configure or ALTER SYSTEM.\n")
	settings := n.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, quoteSetting(settings[name]))
	}
	if err := n.lab.account.writeFile(filepath.Join(n.dataDir, "postgresql.conf"), []byte(conf.String())); err != nil {
		return err
	}
	return n.lab.account.writeFile(filepath.Join(n.dataDir, "pg_hba.conf"), []byte(n.lab.hba()))
}

// quoteSetting escapes a value for single quotes in postgresql.conf (guc-file.l: a doubled quote, backslash escapes).
func quoteSetting(value string) string {
	return strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), `'`, `''`)
}

// hba is the pg_hba.conf of every node. The lab's own ways in come first, so that no line of Options.HBA can lock it out.
func (l *Lab) hba() string {
	var b strings.Builder
	for _, network := range []string{"127.0.0.0/8", "::1/128"} {
		fmt.Fprintf(&b, "host all %s %s scram-sha-256\n", superuser, network)
		fmt.Fprintf(&b, "host replication %s,%s %s scram-sha-256\n", superuser, replicationRole, network)
	}
	for _, line := range l.opts.HBA {
		b.WriteString(line + "\n")
	}
	for _, network := range []string{"127.0.0.0/8", "::1/128"} {
		fmt.Fprintf(&b, "host all \"%s\" %s %s\n", l.opts.AppUser, network, l.opts.AppAuth)
		fmt.Fprintf(&b, "host all all %s scram-sha-256\n", network)
		fmt.Fprintf(&b, "host replication all %s scram-sha-256\n", network)
	}
	return b.String()
}
