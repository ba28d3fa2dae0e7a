package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Info is what a running lab prints: for people as a page, for scripts as one line of JSON. It holds passwords; they are good for
// this lab on loopback only.
type Info struct {
	Dir     string     `json:"dir"`
	Version int        `json:"postgres_version"`
	Nodes   []NodeInfo `json:"nodes"`

	AppUser     string `json:"app_user"`
	AppPassword string `json:"app_password"`
	AppDatabase string `json:"app_database"`

	ProbeUser     string `json:"probe_user"`
	ProbePassword string `json:"probe_password"`

	// Config is a complete configuration of pgtether for this lab; the addresses below are those it names.
	Config    string `json:"config"`
	Listen    string `json:"listen"`
	Admin     string `json:"admin"`
	AppDSN    string `json:"app_dsn"`
	JDBC      string `json:"jdbc_url"`
	ProxyRuns bool   `json:"proxy_runs"`
	// Socket takes faults, see Send.
	Socket    string    `json:"control_socket"`
	ServerTLS *TLSFiles `json:"tls,omitempty"`
}

// NodeInfo is one node of an Info.
type NodeInfo struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Relay leads to the node and can be broken; pgtether's configuration names it.
	Relay    string `json:"relay"`
	DataDir  string `json:"data_dir"`
	Log      string `json:"log"`
	SuperDSN string `json:"super_dsn"`
	AppDSN   string `json:"app_dsn"`
}

// TLSFiles are the certificates of the nodes and the proxy.
type TLSFiles struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

func (i Info) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(i)
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "PostgreSQL %d in %s\n\n", i.Version, i.Dir)
	for _, n := range i.Nodes {
		fmt.Fprintf(t, "%s\t%s\tthrough its relay: %s\tlog: %s\n", n.Name, n.Address, n.Relay, n.Log)
	}
	for _, n := range i.Nodes {
		fmt.Fprintf(t, "\nsuperuser on %s\tpsql '%s'", n.Name, n.SuperDSN)
		fmt.Fprintf(t, "\napplication on %s\tpsql '%s'", n.Name, n.AppDSN)
	}
	fmt.Fprintf(t, "\nprobe role\t%s, password %s\n", i.ProbeUser, i.ProbePassword)
	if i.ProxyRuns {
		fmt.Fprintf(t, "\nthrough pgtether\tpsql '%s'\n", i.AppDSN)
		fmt.Fprintf(t, "\t%s?user=%s&password=%s\n", i.JDBC, i.AppUser, i.AppPassword)
		fmt.Fprintf(t, "its state\tpgtether status --admin %s\n", i.Admin)
	} else {
		fmt.Fprintf(t, "\nproxy for this pair\tpgtether serve --config %s\n", i.Config)
	}
	fmt.Fprintf(t, "\nfaults\ttype them here (help lists them), or from elsewhere:\n\tpgtether lab send --socket %s help\n", i.Socket)
	fmt.Fprint(t, "end\tCtrl-C; nothing stays behind\n")
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}
