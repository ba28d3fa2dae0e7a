package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// The environment variables that hold secrets.
const (
	// EnvProbePassword holds the password of probe.user, in place of probe.password_file.
	EnvProbePassword = "PGTETHER_PROBE_PASSWORD"
	// EnvToken holds the token of the admin listener where admin.token_file is not set.
	EnvToken = "PGTETHER_TOKEN"
)

// maxSecretFile bounds a file that holds one secret, maxPEMFile one that holds certificates.
const (
	maxSecretFile = 64 << 10
	maxPEMFile    = 4 << 20
)

// material is what the files that the document names, and the environment, held when it was loaded.
type material struct {
	probePassword, adminToken Secret
	verifiers                 map[string]Secret
}

// ProbePassword returns the password of probe.user; it may be unset.
func (f *File) ProbePassword() Secret { return f.material.probePassword }

// AdminToken returns the token that POST requests to the admin listener must show; it may be unset.
func (f *File) AdminToken() Secret { return f.material.adminToken }

// Verifier returns the SCRAM verifier, or the MD5 hash, of a role from auth.verifier_file; ok is false for a role that the file does not have.
func (f *File) Verifier(role string) (verifier Secret, ok bool) {
	verifier, ok = f.material.verifiers[role]
	return verifier, ok
}

// system is what loading needs of the machine, so that tests can be exact.
type system struct {
	getenv func(string) string
	now    func() time.Time
}

// absolute makes every path of the document count from the folder of the configuration file.
func absolute(f *File, dir string) {
	walk(f, func(_ string, field reflect.StructField, v reflect.Value) {
		if field.Tag.Get("path") != "" && v.String() != "" && !filepath.IsAbs(v.String()) {
			v.SetString(filepath.Join(dir, v.String()))
		}
	})
}

// loadMaterial reads every file that the document names.
func loadMaterial(f *File, r *report, sys system) {
	f.material = &material{}
	f.material.probePassword = loadPassword(f, r, sys)
	loadToken(f, r, sys)
	if f.Auth.VerifierFile != "" && !r.refused("auth.verifier_file") {
		if data, ok := readSecret(r, "auth.verifier_file", f.Auth.VerifierFile, maxPEMFile); ok {
			f.material.verifiers = parseVerifiers(r, f.Auth.VerifierFile, data)
		}
	}
	loadCertificate(r, "listen.tls_cert", f.Listen.TLSCert, "listen.tls_key", f.Listen.TLSKey, sys.now())
	loadCertificate(r, "backend.tls_cert", f.Backend.TLSCert, "backend.tls_key", f.Backend.TLSKey, sys.now())
	loadRoots(r, "listen.tls_client_ca", f.Listen.TLSClientCA)
	loadRoots(r, "backend.tls_ca", f.Backend.TLSCA)
}

func loadPassword(f *File, r *report, sys system) Secret {
	const path = "probe.password_file"
	fromEnv := sys.getenv(EnvProbePassword)
	switch {
	case f.Probe.PasswordFile != "" && fromEnv != "":
		r.refuse(path, "contradicts %s: both hold the password of probe.user; remove one of the two", EnvProbePassword)
	case f.Probe.PasswordFile != "":
		return readOneLine(r, path, f.Probe.PasswordFile)
	case fromEnv == "" && f.Backend.TLSCert == "" && f.Probe.User != "":
		r.warn("probe.user", "no password is known for %q: every node must let it in without one; set password_file in [probe] or %s",
			f.Probe.User, EnvProbePassword)
	}
	return NewSecret(fromEnv)
}

// loadToken reads what may change something through the admin listener. It is apart from the rest because the command line needs it alone.
func loadToken(f *File, r *report, sys system) {
	if f.Admin.TokenFile != "" {
		f.material.adminToken = readOneLine(r, "admin.token_file", f.Admin.TokenFile)
		return
	}
	f.material.adminToken = NewSecret(sys.getenv(EnvToken))
	if e, err := parseEndpoint(f.Admin.Address, 7432); err == nil && !e.loopback() && !f.material.adminToken.IsSet() {
		r.warn("admin.address", "%q can be reached from other machines and no token is set: everyone there can read the status, and every command "+
			"(POST) is refused; set token_file in [admin] or %s", f.Admin.Address, EnvToken)
	}
}

// readOneLine reads a file that holds one secret and nothing else.
func readOneLine(r *report, path, file string) Secret {
	data, ok := readSecret(r, path, file, maxSecretFile)
	if !ok {
		return Secret{}
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case text == "":
		r.refuse(path, "%q is empty; it must hold the secret on one line", file)
	case strings.ContainsAny(text, "\n\r\x00") || !utf8.ValidString(text):
		r.refuse(path, "%q holds more than one line of text; it must hold the secret on one line and nothing else", file)
	default:
		return NewSecret(text)
	}
	return Secret{}
}

// readSecret reads a file and warns when others could read it, too.
func readSecret(r *report, path, file string, most int64) ([]byte, bool) {
	data, info, err := readBounded(file, most)
	if err != nil {
		r.refuse(path, "%s", cannotRead(named(file), err)).Err = err
		return nil, false
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		r.warn(path, "%q has the mode %#o: other users can read or change the secret in it; run chmod 0600, or 0640 with a group of its own", file, mode)
	}
	return data, true
}

// pipePatience bounds the wait for what is not a file: a pipe that nobody writes to must not stop a start, nor every later reload.
const pipePatience = 5 * time.Second

// readBounded reads a file, or a pipe that somebody writes to, of a bounded size.
func readBounded(file string, most int64) ([]byte, fs.FileInfo, error) {
	// Without O_NONBLOCK the opening of a pipe waits for a writer, with no way to end the wait.
	handle, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = handle.Close() }()
	info, err := handle.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		return nil, nil, &ValueError{file, "a file but a folder"}
	}
	// Ordinary files know no deadline and need none.
	_ = handle.SetReadDeadline(time.Now().Add(pipePatience))
	data, err := io.ReadAll(io.LimitReader(handle, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > most {
		return nil, nil, &ValueError{file, "what it should be: it is larger than " + Size(most).String()}
	}
	return data, info, nil
}

// named is a file as a message has it.
func named(file string) string {
	if len(file) > pathMost {
		return "the file " + quote(file)
	}
	return "the file " + strconv.Quote(file)
}

// pathMost is the longest path that Linux takes (PATH_MAX). Up to that a path is shown whole: its end is what tells one file from another.
const pathMost = 4096

// cannotRead says why a file cannot be read, with its name once.
func cannotRead(subject string, err error) string {
	var onPath *fs.PathError
	var unfit *ValueError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return subject + " does not exist"
	case errors.Is(err, fs.ErrPermission):
		return subject + " may not be read by this user"
	case errors.As(err, &unfit):
		return subject + " is not " + unfit.Want
	case errors.As(err, &onPath):
		return subject + " cannot be read: " + onPath.Err.Error()
	}
	return subject + " cannot be read: " + err.Error()
}

// loadCertificate makes sure that a certificate and its key can be used, and says when they soon cannot.
func loadCertificate(r *report, certPath, certFile, keyPath, keyFile string, now time.Time) {
	if certFile == "" || keyFile == "" || r.refused(certPath) || r.refused(keyPath) {
		return
	}
	cert, _, err := readBounded(certFile, maxPEMFile)
	if err != nil {
		r.refuse(certPath, "%s", cannotRead(named(certFile), err)).Err = err
	}
	key, ok := readSecret(r, keyPath, keyFile, maxPEMFile)
	if err != nil || !ok {
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		r.refuse(certPath, "%q and %q are not a certificate and its key in PEM: %s", certFile, keyFile, err.Error()).Err = err
		return
	}
	const month = 30 * 24 * time.Hour
	switch until := pair.Leaf.NotAfter; {
	case now.After(until):
		r.warn(certPath, "the certificate in %q expired on %s: whoever verifies it will refuse to connect", certFile, until.UTC().Format(time.DateOnly))
	case now.Before(pair.Leaf.NotBefore):
		r.warn(certPath, "the certificate in %q is not valid before %s", certFile, pair.Leaf.NotBefore.UTC().Format(time.DateOnly))
	case now.Add(month).After(until):
		r.warn(certPath, "the certificate in %q expires on %s", certFile, until.UTC().Format(time.DateOnly))
	}
}

// loadRoots makes sure that a file holds at least one certificate.
func loadRoots(r *report, path, file string) {
	if file == "" || r.refused(path) {
		return
	}
	data, _, err := readBounded(file, maxPEMFile)
	if err != nil {
		r.refuse(path, "%s", cannotRead(named(file), err)).Err = err
		return
	}
	if !x509.NewCertPool().AppendCertsFromPEM(bytes.TrimSpace(data)) {
		r.refuse(path, "%q holds no certificate in PEM (a block that begins with -----BEGIN CERTIFICATE-----)", file)
	}
}
