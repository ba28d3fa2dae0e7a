package config

import (
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// maxFile bounds the configuration file: a larger one is something else.
const maxFile = 1 << 20

// Load reads a configuration file and everything that it names. The error holds every problem (Problems takes it apart); its text has one problem
// per line. Warnings are returned with and without an error.
func Load(path string) (*File, []Warning, error) {
	return load(path, system{getenv: os.Getenv, now: time.Now}, true)
}

// LoadForClient reads a configuration file as a command does that only talks to the admin listener: of the files that it names only the token is
// read, so that whoever may use the command needs no right to read the server's secrets.
func LoadForClient(path string) (*File, error) {
	f, _, err := load(path, system{getenv: os.Getenv, now: time.Now}, false)
	return f, err
}

func load(path string, sys system, everything bool) (*File, []Warning, error) {
	r := &report{file: path}
	data, _, err := readBounded(path, maxFile)
	if err != nil {
		r.refuse("", "%s", cannotRead("the configuration file", err)).Err = err
		return nil, nil, r.err()
	}
	if !utf8.Valid(data) {
		r.refuse("", "not valid TOML: the file is not text in UTF-8")
		return nil, nil, r.err()
	}
	f := decode(string(data), r)
	if r.lines == nil {
		// Not TOML: there is nothing more to be said about it.
		return nil, nil, r.err()
	}
	f.lines = r.lines
	validate(&f, r)
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		r.refuse("", "the folder of the file cannot be named: %s", err.Error()).Err = err
		return nil, r.warnings, r.err()
	}
	absolute(&f, dir)
	if everything {
		loadMaterial(&f, r, sys)
		checkRooms(&f, r)
	} else {
		f.material = &material{}
		loadToken(&f, r, sys)
	}
	if err := r.err(); err != nil {
		return nil, r.warnings, err
	}
	return &f, r.warnings, nil
}
