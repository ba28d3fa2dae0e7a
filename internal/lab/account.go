package lab

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// account is the operating system account that the servers run as.
type account struct {
	name     string
	uid, gid int
	// drop: we are root and must give up root for the servers, which refuse to run with it.
	drop bool
}

// serverAccount is our own account, or, when we are root, "postgres" or "nobody", whichever exists. None is created: a lab
// must leave the machine as it was.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("read ids of account %s: %w", name, err)
		}
		return account{name: name, uid: uid, gid: gid, drop: true}, nil
	}
	return account{}, errors.New("started as root, and neither account postgres nor nobody exists to run the servers: run 'make setup'")
}

// own gives a file or directory to the account.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to account %s: %w", path, a.name, err)
	}
	return nil
}

// writeFile writes a file that belongs to the account, readable by it alone.
func (a account) writeFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("write server file: %w", err)
	}
	return a.own(path)
}

// mayEnter tells whether the account may pass through a directory with these properties.
func (a account) mayEnter(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	uid, gid := ownerOf(info)
	mode := info.Mode().Perm()
	switch {
	case uid == a.uid:
		return mode&0o100 != 0
	case gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}
