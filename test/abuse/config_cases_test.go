package abuse

// mistake is a wrong configuration: one line of a good one replaced, or lines added. The line that must be named ends with "#!".
type mistake struct {
	name string
	// instead is the part of the good configuration that with replaces; empty: with is added at the end.
	instead, with string
	key           string
	// words are what the refusal must say besides: what is wrong, or what would be right.
	words []string
}

// mistakes are one of each kind that an operator makes.
func mistakes() []mistake {
	add := func(name, lines, key string, words ...string) mistake {
		return mistake{name: name, with: lines, key: key, words: words}
	}
	replace := func(name, old, new, key string, words ...string) mistake {
		return mistake{name: name, instead: old, with: new, key: key, words: words}
	}
	return []mistake{
		// A key that does not exist.
		add("a misspelt key", "[limits]\nmax_client = 10 #!", "limits.max_client", "unknown key", `"limits.max_clients"`),
		add("a key of another section", "[limits]\nlogin = \"15s\" #!", "limits.login", "unknown key", `"hold.login"`),
		add("a key in capitals", "[limits]\nMAX_CLIENTS = 10 #!", "limits.MAX_CLIENTS", "unknown key", `"limits.max_clients"`),
		add("a section that does not exist", "[pool] #!\nsize = 10", "pool", "unknown key", "a section is one of"),
		add("a key of another product", "[limits]\ndefault_pool_size = 20 #!", "limits.default_pool_size", "unknown key", "max_clients"),
		replace("a misspelt key of a node", `address = "127.0.0.1:5432"`, `adress = "127.0.0.1:5432" #!`, "node.adress", "unknown key", `"node.address"`),
		replace("a misspelt section", "[probe]", "[prob] #!", "prob", "unknown key", `"probe"`),
		// A value of another type.
		add("a text for a number", "[limits]\nmax_clients = \"1000\" #!", "limits.max_clients", "whole number without quotes"),
		add("a fraction for a number", "[limits]\nmax_clients = 10.5 #!", "limits.max_clients", "whole number"),
		add("a number for a duration", "[hold]\nlogin = 15 #!", "hold.login", "duration in quotes", `"1.5s"`),
		add("a number for a size", "[failover]\nmode = \"observe\"\nmax_lag = 16777216 #!", "failover.max_lag", "size in quotes", `"16MiB"`),
		add("a text for yes or no", "[listen]\nreplication = \"yes\" #!", "listen.replication", "true or false"),
		add("yes or no for a text", "[cluster]\nname = true #!", "cluster.name", "text in quotes"),
		add("a list for a text", "[log]\nlevel = [\"info\"] #!", "log.level", "text in quotes"),
		replace("a value for a section", "[cluster]", "read = \"standbys\" #!\n[cluster]", "read", "want a table"),
		replace("one node in single brackets", "[[node]]", "[node] #!", "node", "[[node]]"),
		// A duration, a size, a number, a word.
		add("a duration without a unit", "[hold]\nlogin = \"15\" #!", "hold.login", "unit is missing", `"15s"`),
		add("a duration with another unit", "[hold]\nlogin = \"15 seconds\" #!", "hold.login", "units: ms, s, m, h"),
		add("a duration below 0", "[hold]\nlogin = \"-15s\" #!", "hold.login", "0 or more"),
		add("a duration that is too long", "[hold]\nlogin = \"25h\" #!", "hold.login", "1ms to 1h"),
		add("a duration that is too short", "[backend]\nconnect_timeout = \"1ms\" #!", "backend.connect_timeout", "100ms to 5m"),
		add("a size in decimal units", "[failover]\nmode = \"observe\"\nmax_lag = \"16MB\" #!", "failover.max_lag", "MiB"),
		add("a number that is too small", "[limits]\nmax_clients = 0 #!", "limits.max_clients", "1 to 1000000"),
		add("a number that fits no register", "[limits]\nmax_clients = 99999999999999999999 #!", "limits.max_clients", "out of range"),
		add("a misspelt word", "[listen]\ntls = \"requre\" #!", "listen.tls", "disable, allow, require, passthrough", `"require"`),
		add("a word of another product", "[listen]\ntls = \"verify-full\" #!", "listen.tls", "disable, allow, require, passthrough"),
		add("a log level that does not exist", "[log]\nlevel = \"verbose\" #!", "log.level", "debug, info, warn, error"),
		// An address.
		replace("a node without a port", `address = "127.0.0.1:5432"`, `address = "127.0.0.1" #!`, "node.address", `"127.0.0.1:5432"`),
		replace("a node as a URL", `address = "127.0.0.1:5432"`, `address = "postgres://127.0.0.1/" #!`, "node.address", "without a scheme"),
		replace("a node as a socket", `address = "127.0.0.1:5432"`, `address = "/var/run/postgresql" #!`, "node.address", "Unix sockets"),
		add("two nodes of one name", "[[node]]\nname = \"region-a\" #!\naddress = \"127.0.0.1:5433\"", "node.name", "each needs its own"),
		add("two nodes of one address", "[[node]]\nname = \"region-b\"\naddress = \"127.0.0.1:5432\" #!", "node.address", "are not two servers"),
		// A file that is not there, or is not what it should be.
		add("a certificate that is not there", "[listen]\ntls = \"allow\"\ntls_cert = \"none.crt\" #!\ntls_key = \"none.key\"", "listen.tls_cert", "none.crt", "does not exist"),
		add("a certificate that is none", "[listen]\ntls = \"allow\"\ntls_cert = \"pgtether.toml\" #!\ntls_key = \"pgtether.toml\"", "listen.tls_cert", "PEM"),
		add("an authority that is not there", "[backend]\ntls = \"verify-full\"\ntls_ca = \"none.pem\" #!", "backend.tls_ca", "none.pem", "does not exist"),
		add("a token that is not there", "[admin]\ntoken_file = \"none.token\" #!", "admin.token_file", "none.token", "does not exist"),
		replace("a password that is not there", "password_file = ", "password_file = \"none.password\" #!\n# ", "probe.password_file", "none.password", "does not exist"),
		add("verifiers that are not there", "[auth]\nscram = \"proxy\"\nverifier_file = \"none.txt\" #!", "auth.verifier_file", "none.txt", "does not exist"),
		// Values that contradict each other.
		add("a certificate without its key", "[listen]\ntls = \"allow\"\ntls_cert = \"pgtether.toml\" #!", "listen.tls_cert", "listen.tls_key"),
		add("a certificate that is not used", "[listen]\ntls = \"disable\"\ntls_cert = \"pgtether.toml\" #!\ntls_key = \"pgtether.toml\"", "listen.tls_cert", "contradicts"),
		add("TLS demanded without a certificate", "[listen]\ntls = \"require\" #!", "listen.tls", "tls_cert", "tls_key"),
		add("an authority that is not used", "[backend]\ntls = \"prefer\"\ntls_ca = \"pgtether.toml\" #!", "backend.tls_ca", "verify-full"),
		add("sessions held for less than a drain", "[hold]\nsession = \"12s\" #!", "hold.session", "drain.timeout (10s)"),
		add("a drain longer than sessions are held", "[drain]\ntimeout = \"20s\" #!", "drain.timeout", "hold.session (15s)"),
		add("probes that are slower than stable_for", "[failover]\nmode = \"observe\"\nstable_for = \"1s\" #!", "failover.stable_for", "probe.interval"),
		add("both listeners on one port", "[listen]\naddress = \"127.0.0.1:7777\"\n[admin]\naddress = \"127.0.0.1:7777\" #!", "admin.address", "a port each"),
		add("SCRAM answered without verifiers", "[auth]\nscram = \"proxy\" #!", "auth.scram", "verifier_file", "verifier_lookup"),
		add("SCRAM answered where nothing is seen", "[listen]\ntls = \"passthrough\"\n[auth]\nscram = \"proxy\" #!\nverifier_lookup = \"pgtether.scram_verifier\"", "auth.scram", "passthrough", `"relay"`),
		// What this version does not do.
		add("a fence that nobody has", "[failover]\nmode = \"auto\"\nrequire_fence = true #!", "failover.require_fence", "needs hooks.fence", "[hooks]"),
		add("a read listener", "[read]\naddress = \"127.0.0.1:6433\" #!", "read.address", "not in this version"),
		add("several proxies", "[etcd]\nendpoints = [\"https://127.0.0.1:2379\"] #!", "etcd.endpoints", "not in this version"),
		// What is no TOML, or not enough of one.
		add("a key twice", "[log]\nlevel = \"info\"\nlevel = \"debug\" #!", "log.level", "already been defined"),
		add("a text without quotes", "[cluster]\nname = keycloak #!", "cluster.name", "not valid TOML"),
		add("a bracket that does not close", "[limits #!\nmax_clients = 1", "", "not valid TOML"),
	}
}
