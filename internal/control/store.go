package control

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pgtether/pgtether/decision"
)

const (
	recordFile    = "state.json"
	lockFile      = "lock"
	formatVersion = 1
)

var (
	// ErrStateInUse is returned when another process holds the state directory.
	ErrStateInUse = errors.New("another pgtether process uses this state directory")
	// ErrTorn is returned for a state file whose checksum or form is wrong.
	ErrTorn = errors.New("state file is torn or was changed by hand")
	// ErrNewerFormat is returned for a state file written by a later version.
	ErrNewerFormat = errors.New("state file has a format of a later version")
)

// envelope is the form of the files of a Store. Sum is the SHA-256 of the format version, the state id and Body as it stands in the file.
type envelope struct {
	Version int             `json:"version"`
	StateID string          `json:"state_id"`
	Sum     string          `json:"sha256"`
	Body    json.RawMessage `json:"body"`
}

// written is the body: a value and when it was written. The value's instants are on the clock of the run that wrote it.
type written[T any] struct {
	Saved Stamp `json:"saved"`
	// Turn numbers the writes where there are two files, of which the greater counts.
	Turn  uint64 `json:"turn,omitempty"`
	Value T      `json:"value"`
}

// Store is the state directory: the engine's record, written to a temporary file, fsynced, renamed, and the directory fsynced; and the writer's last known
// position, see SaveLastKnown.
//
// Invariant: a record that was saved under one state id is never loaded under another.
type Store struct {
	dir  string
	id   string
	ops  fileOps
	lock *os.File
	// turn is that of the last known position that was saved or loaded last.
	turn uint64
	// lost says why the record of an earlier run could not be used; empty when it was used or never existed.
	lost string
}

// fileOps are the calls that can fail half way; a test fails each in turn.
type fileOps struct {
	writeSync func(path string, b []byte) error
	overwrite func(path string, b []byte) (added bool, err error)
	rename    func(from, to string) error
	syncDir   func(dir string) error
}

func osFileOps() fileOps {
	return fileOps{writeSync: writeSync, overwrite: overwrite, rename: os.Rename, syncDir: syncDir}
}

// OpenStore takes the state directory for this process, creating it when it is missing, and returns the record of an earlier run, its
// instants brought onto the given clock. A torn or lost record begins a new state id: the returned record is then empty and Store.Lost says why.
// It fails when the directory cannot be written or is in use (ErrStateInUse), or when a later version wrote it (ErrNewerFormat).
func OpenStore(dir string, clock *Clock) (*Store, decision.Record, decision.Opt[decision.LastKnown], error) {
	var last decision.Opt[decision.LastKnown]
	rec := decision.NewRecord()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, rec, last, fmt.Errorf("create state directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, rec, last, err
	}
	s := &Store{dir: dir, ops: osFileOps(), lock: lock}
	if err := s.load(clock, &rec, &last); err != nil {
		s.Close()
		return nil, rec, last, err
	}
	return s, rec, last, nil
}

func (s *Store) load(clock *Clock, rec *decision.Record, last *decision.Opt[decision.LastKnown]) error {
	var r written[decision.Record]
	id, err := s.read(recordFile, &r)
	if err == nil {
		err = validate(r.Value)
	}
	switch {
	case err == nil:
		s.id = id
		d, _ := clock.shift(r.Saved)
		*rec = r.Value.Shift(d)
	case errors.Is(err, ErrNewerFormat):
		return err
	case errors.Is(err, fs.ErrNotExist):
		s.id = newStateID()
		return nil
	default:
		return s.setAside(err)
	}
	*last = s.loadLastKnown(clock)
	return nil
}

func validate(r decision.Record) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("read %s: %w", recordFile, err)
	}
	return nil
}

// setAside fails closed: what cannot be read is kept for a person, nothing of it is believed, and a new state id begins.
func (s *Store) setAside(why error) error {
	s.lost = why.Error()
	s.id = newStateID()
	path := filepath.Join(s.dir, recordFile)
	if err := s.ops.rename(path, path+".torn"); err != nil {
		return fmt.Errorf("keep torn state file aside: %w", err)
	}
	return nil
}

// ID is the random name under which epochs grow; it is born with the state file.
func (s *Store) ID() string { return s.id }

// Lost says in words why an earlier record was not used; empty when there was none or it was used.
func (s *Store) Lost() string { return s.lost }

// Dir is the directory.
func (s *Store) Dir() string { return s.dir }

// SaveRecord makes the record durable. When it returns an error the earlier record may still be the one on disk, or the new one:
// never a mixture.
func (s *Store) SaveRecord(r decision.Record, now Stamp) error {
	return s.write(recordFile, written[decision.Record]{Saved: now, Value: r})
}

// Close gives the directory up.
func (s *Store) Close() {
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// seal encodes what a file is to hold.
func (s *Store) seal(name string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	env := envelope{Version: formatVersion, StateID: s.id, Body: body}
	env.Sum = env.sum()
	b, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return append(b, '\n'), nil
}

func (s *Store) write(name string, v any) error {
	b, err := s.seal(name, v)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, name)
	if err := s.ops.writeSync(path+".new", b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := s.ops.rename(path+".new", path); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	if err := s.ops.syncDir(s.dir); err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	return nil
}

func (s *Store) read(name string, v any) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	var env envelope
	if err := json.Unmarshal(b, &env); err != nil {
		return "", fmt.Errorf("read %s: %w", name, ErrTorn)
	}
	if env.Version > formatVersion {
		return "", fmt.Errorf("read %s of format %d: %w", name, env.Version, ErrNewerFormat)
	}
	if env.Version < 1 || env.StateID == "" || env.Sum != env.sum() {
		return "", fmt.Errorf("read %s: %w", name, ErrTorn)
	}
	if err := json.Unmarshal(env.Body, v); err != nil {
		return "", fmt.Errorf("read %s: %w", name, ErrTorn)
	}
	return env.StateID, nil
}

func (e envelope) sum() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n", e.Version, e.StateID)
	var compact bytes.Buffer
	if err := json.Compact(&compact, e.Body); err != nil {
		return ""
	}
	h.Write(compact.Bytes())
	return hex.EncodeToString(h.Sum(nil))
}

func newStateID() string {
	var b [16]byte
	rand.Read(b[:]) // crypto/rand never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// lockDir takes an exclusive lock that ends with the process, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state directory lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, ErrStateInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// writeSync makes a file of b. One that fails is not left behind: on a full disk it would take what room there is.
func writeSync(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync() // not retried on the same file when it fails: the kernel may have dropped the dirty pages
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
