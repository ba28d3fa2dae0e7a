package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Problem is one thing that is wrong with a configuration, where it is, and what would be right. A configuration with a problem is refused.
type Problem struct {
	// File is the configuration file.
	File string
	// Line counts from 1; 0 when the problem is something that is not in the file.
	Line int
	// Key is the full key ("limits.max_clients"); empty when the problem is the file as a whole.
	Key string
	// Text says what is wrong and what would be right.
	Text string
	// Err is the cause, where the system reported one. Its text is part of Text.
	Err error
}

// Error prints "FILE:LINE: KEY: TEXT", without the parts that there are not.
func (p *Problem) Error() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.Itoa(p.Line)
	}
	if p.Key != "" {
		s += ": " + p.Key
	}
	return s + ": " + p.Text
}

// Unwrap returns the cause, if the system reported one.
func (p *Problem) Unwrap() error { return p.Err }

// Warning is something that an operator should know about a configuration that is accepted all the same.
type Warning struct {
	Line      int
	File, Key string
	Text      string
}

// String prints the warning as a Problem is printed.
func (w Warning) String() string {
	return (&Problem{File: w.File, Line: w.Line, Key: w.Key, Text: w.Text}).Error()
}

// Problems returns the single problems of an error of Load, in the order of the file.
func Problems(err error) []*Problem {
	var all problems
	if errors.As(err, &all) {
		return all
	}
	return nil
}

// problems is every problem of one file.
type problems []*Problem

// Error prints one problem per line.
func (ps problems) Error() string { return errors.Join(ps.Unwrap()...).Error() }

// Unwrap makes each problem reachable for errors.As.
func (ps problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// report collects what is found in one file.
type report struct {
	file     string
	lines    positions
	problems problems
	warnings []Warning
}

// refuse records a problem at the place of a key, or of the nearest table around it that the file has. The path may hold indices
// ("node[1].address"). Only the first problem of a key is kept: what follows from a wrong value would only hide it.
func (r *report) refuse(path, format string, args ...any) *Problem {
	if r.refused(path) {
		return &Problem{}
	}
	return r.add(path, format, args...)
}

// add records a problem beside others of the same key.
func (r *report) add(path, format string, args ...any) *Problem {
	p := &Problem{File: r.file, Line: r.lines.near(path), Key: withoutIndices(path), Text: fmt.Sprintf(format, args...)}
	r.problems = append(r.problems, p)
	return p
}

// warn records a warning at the place of a key.
func (r *report) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{File: r.file, Line: r.lines.near(path), Key: withoutIndices(path), Text: fmt.Sprintf(format, args...)})
}

// refused reports whether the key itself was already found wrong, so that nothing is built on its value.
func (r *report) refused(path string) bool {
	line, key := r.lines.near(path), withoutIndices(path)
	return slices.ContainsFunc(r.problems, func(p *Problem) bool { return p.Key == key && p.Line == line })
}

// err returns all problems in the order of the file, those without a line last.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b *Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return r.problems
}
