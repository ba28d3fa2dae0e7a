package config

import "time"

// File is the whole document. Its struct tags are the schema:
//
//	toml     the key
//	oneof    the words that are allowed, with | between them
//	min max  the bounds, inclusive, in the notation of the file
//	path     the value names a file or folder; a relative one counts from the folder of the configuration file
//	restart  a reload may not change it, and why
//
// docs/CONFIGURATION.md says what each key means and why its default is what it is; a test compares the two.
type File struct {
	Cluster    Cluster    `toml:"cluster"`
	Listen     Listen     `toml:"listen"`
	Read       Read       `toml:"read"`
	Admin      Admin      `toml:"admin"`
	State      State      `toml:"state"`
	Nodes      []Node     `toml:"node"`
	Backend    Backend    `toml:"backend"`
	Probe      Probe      `toml:"probe"`
	Failover   Failover   `toml:"failover"`
	Hold       Hold       `toml:"hold"`
	Drain      Drain      `toml:"drain"`
	Continuity Continuity `toml:"continuity"`
	Auth       Auth       `toml:"auth"`
	Durability Durability `toml:"durability"`
	Limits     Limits     `toml:"limits"`
	Hooks      Hooks      `toml:"hooks"`
	Etcd       Etcd       `toml:"etcd"`
	Log        Log        `toml:"log"`

	// material is what the named files and the environment held. It stays behind a pointer and unexported, so that no formatter or encoder
	// that is given a File can reach a key or a password.
	material *material
	// lines says where the keys are in the file that was read.
	lines positions
}

// Cluster names what is served.
type Cluster struct {
	Name string `toml:"name" restart:"the name is part of the identity of the running process"`
}

// Listen is where clients connect.
type Listen struct {
	Address     string `toml:"address" restart:"the listening socket is opened at the start"`
	TLS         string `toml:"tls" oneof:"disable|allow|require|passthrough"`
	TLSCert     string `toml:"tls_cert" path:"file"`
	TLSKey      string `toml:"tls_key" path:"file"`
	TLSClientCA string `toml:"tls_client_ca" path:"file"`
	Replication bool   `toml:"replication"`
}

// Read is the optional listener that leads to standbys.
type Read struct {
	Address string `toml:"address" restart:"the listening socket is opened at the start"`
	MaxLag  Size   `toml:"max_lag"`
}

// Admin is the HTTP listener for people, scripts and Prometheus.
type Admin struct {
	Address   string `toml:"address" restart:"the listening socket is opened at the start"`
	TokenFile string `toml:"token_file" path:"file"`
}

// State is where the epoch and everything else that must survive a restart is kept.
type State struct {
	Dir string `toml:"dir" path:"dir" restart:"the state would be split over two folders"`
}

// Node is one PostgreSQL server.
type Node struct {
	Name    string `toml:"name" restart:"the nodes are known to the running failover engine by name"`
	Address string `toml:"address" restart:"open sessions are tied to the address that they were opened to"`
	Agent   string `toml:"agent" restart:"the agent is part of the node"`
}

// Backend is how pgtether connects to the nodes.
type Backend struct {
	TLS            string   `toml:"tls" oneof:"disable|prefer|require|verify-ca|verify-full"`
	TLSCA          string   `toml:"tls_ca" path:"file"`
	TLSCert        string   `toml:"tls_cert" path:"file"`
	TLSKey         string   `toml:"tls_key" path:"file"`
	ConnectTimeout Duration `toml:"connect_timeout" min:"100ms" max:"5m"`
}

// Probe is how pgtether asks the nodes for their state.
type Probe struct {
	User         string   `toml:"user"`
	PasswordFile string   `toml:"password_file" path:"file"`
	Database     string   `toml:"database"`
	Interval     Duration `toml:"interval" min:"100ms" max:"1m"`
	Timeout      Duration `toml:"timeout" min:"50ms" max:"1m"`
}

// Failover is when and by whom the writer is changed.
type Failover struct {
	Mode                string   `toml:"mode" oneof:"auto|manual|observe"`
	StableFor           Duration `toml:"stable_for" min:"1s" max:"1h"`
	MaxLag              Size     `toml:"max_lag"`
	RequireLossless     bool     `toml:"require_lossless"`
	RequireFence        bool     `toml:"require_fence"`
	AntiFlap            Duration `toml:"anti_flap" max:"168h"`
	PromoteTimeout      Duration `toml:"promote_timeout" min:"1s" max:"1h"`
	PrimaryStartTimeout Duration `toml:"primary_start_timeout" min:"1s" max:"24h"`
}

// Hold is how long and how many clients wait while there is no writer.
type Hold struct {
	Login            Duration `toml:"login" min:"1ms" max:"1h"`
	Session          Duration `toml:"session" min:"1ms" max:"1h"`
	Max              int      `toml:"max" min:"1" max:"1000000"`
	ReleasePerSecond int      `toml:"release_per_second" min:"1" max:"1000000"`
}

// Drain is how long sessions may take to reach a transaction boundary.
type Drain struct {
	Timeout Duration `toml:"timeout" min:"1ms" max:"1h"`
}

// Continuity is which changes of the writer an idle session may survive.
type Continuity struct {
	Mode        string `toml:"mode" oneof:"lossless|relaxed|always|off"`
	MovesAtOnce int    `toml:"moves_at_once" min:"1" max:"10000"`
}

// Auth is who answers a client's SCRAM exchange, and where the roles' verifiers come from.
type Auth struct {
	Scram          string `toml:"scram" oneof:"relay|proxy"`
	VerifierFile   string `toml:"verifier_file" path:"file"`
	VerifierLookup string `toml:"verifier_lookup"`
}

// Durability is the least that a commit must wait for.
type Durability struct {
	Floor string `toml:"floor" oneof:"|local|remote_write|on|remote_apply"`
}

// Limits bound what clients can take.
type Limits struct {
	MaxClients     int      `toml:"max_clients" min:"1" max:"1000000"`
	PerUser        int      `toml:"per_user" min:"0" max:"1000000"`
	PerDatabase    int      `toml:"per_database" min:"0" max:"1000000"`
	PerAddress     int      `toml:"per_address" min:"0" max:"1000000"`
	StartupTimeout Duration `toml:"startup_timeout" min:"100ms" max:"10m"`
	LoginsUnderWay int      `toml:"logins_under_way" min:"1" max:"1000000"`
	TLSHandshakes  int      `toml:"tls_handshakes" min:"1" max:"100000"`
}

// Hooks are the operator's own programs.
type Hooks struct {
	Fence   string   `toml:"fence"`
	OnEvent string   `toml:"on_event"`
	Timeout Duration `toml:"timeout" min:"100ms" max:"10m"`
}

// Etcd is what several proxies share.
type Etcd struct {
	Endpoints []string `toml:"endpoints" restart:"the state would be split over two places"`
	Prefix    string   `toml:"prefix" restart:"the state would be split over two places"`
}

// Log is how pgtether writes its log.
type Log struct {
	Format string `toml:"format" oneof:"text|json" restart:"a log in two formats cannot be read by a program"`
	Level  string `toml:"level" oneof:"debug|info|warn|error"`
}

// Default returns the document that an empty file means. It is not valid: it has no node and no probe.user.
func Default() File {
	const mib = 1 << 20
	return File{
		Cluster: Cluster{Name: "keycloak"},
		Listen:  Listen{Address: "0.0.0.0:6432", TLS: "allow"},
		Read:    Read{MaxLag: 1 * mib},
		Admin:   Admin{Address: "127.0.0.1:7432"},
		State:   State{Dir: "/var/lib/pgtether"},
		Backend: Backend{TLS: "prefer", ConnectTimeout: seconds(3)},
		Probe:   Probe{Database: "postgres", Interval: seconds(1), Timeout: seconds(1)},
		Failover: Failover{
			Mode: "auto", StableFor: seconds(5), MaxLag: 16 * mib, AntiFlap: Duration(time.Hour),
			PromoteTimeout: seconds(60), PrimaryStartTimeout: seconds(60),
		},
		Hold:       Hold{Login: seconds(15), Session: seconds(15), Max: 800, ReleasePerSecond: 200},
		Drain:      Drain{Timeout: seconds(10)},
		Continuity: Continuity{Mode: "lossless", MovesAtOnce: 16},
		Auth:       Auth{Scram: "relay"},
		Limits:     Limits{MaxClients: 1000, StartupTimeout: seconds(10), LoginsUnderWay: 200, TLSHandshakes: 64},
		Hooks:      Hooks{Timeout: seconds(10)},
		Etcd:       Etcd{Endpoints: []string{}, Prefix: "/pgtether/keycloak"},
		Log:        Log{Format: "text", Level: "info"},
	}
}

func seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }
