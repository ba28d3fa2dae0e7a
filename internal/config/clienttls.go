package config

// checkClientTLS checks the clients' side of encryption.
func checkClientTLS(f *File, r *report) {
	l := f.Listen
	if r.refused("listen.tls") {
		return
	}
	checkPair(r, "listen.tls_cert", l.TLSCert, "listen.tls_key", l.TLSKey)
	terminates := l.TLS == "allow" || l.TLS == "require"
	hasCert := l.TLSCert != "" || l.TLSKey != ""
	switch {
	case terminates && !hasCert && l.TLS == "require":
		r.refuse("listen.tls", `"require" needs a certificate: set tls_cert and tls_key in [listen]`)
	case !terminates && hasCert:
		r.refuse("listen.tls_cert", `contradicts tls = %q, which uses no certificate of pgtether; remove tls_cert and tls_key, or write tls = "allow" or "require"`, l.TLS)
	}
	if l.TLSClientCA != "" && (!terminates || !hasCert) {
		r.refuse("listen.tls_client_ca", `needs tls = "allow" or "require" in [listen], with tls_cert and tls_key: without them pgtether sees no client certificate`)
	}
	if terminates && hasCert && f.Backend.TLS != "disable" && f.Auth.Scram == "relay" && r.lines["auth.scram"] == 0 {
		r.warn("auth.scram", `with TLS on both legs, clients that insist on SCRAM channel binding are refused by the server unless pgtether shows the same `+
			`certificate as the nodes; otherwise write scram = "proxy", or scram = "relay" to say that it is meant so`)
	}
}

// checkBackendTLS checks the nodes' side of encryption.
func checkBackendTLS(f *File, r *report) {
	b := f.Backend
	if r.refused("backend.tls") {
		return
	}
	checkPair(r, "backend.tls_cert", b.TLSCert, "backend.tls_key", b.TLSKey)
	if b.TLSCA != "" && b.TLS != "verify-ca" && b.TLS != "verify-full" {
		r.refuse("backend.tls_ca", `has no effect with tls = %q, which verifies no certificate; write tls = "verify-full" (or "verify-ca") in [backend]`, b.TLS)
	}
	if b.TLS == "disable" && b.TLSCert != "" && b.TLSKey != "" {
		r.refuse("backend.tls_cert", `contradicts tls = "disable"; remove tls_cert and tls_key, or change tls in [backend]`)
	}
}

// checkPair demands both files or none.
func checkPair(r *report, certPath, cert, keyPath, key string) {
	switch {
	case cert != "" && key == "":
		r.refuse(certPath, "needs %s: a certificate is of no use without its key", keyPath)
	case cert == "" && key != "":
		r.refuse(keyPath, "needs %s: a key is of no use without its certificate", certPath)
	}
}
