//go:build !linux

package lab

import (
	"errors"
	"os"
	"syscall"
)

// supported is false away from Linux: without /proc the lab could not keep its promise to leave no process behind. Start says
// so; the package compiles, so that pgtether itself builds everywhere.
const (
	supported   = false
	sigStop     = syscall.Signal(0)
	sigContinue = syscall.Signal(0)
)

func processesIn(string) []int { return nil }

func processState(int) byte { return 0 }

func processTitle(int) string { return "" }

func removeSegment(int, int) {}

func (a account) processAttributes() *syscall.SysProcAttr { return nil }

func (a account) serverAttributes() *syscall.SysProcAttr { return nil }

func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

func ownerOf(os.FileInfo) (uid, gid int) { return -1, -1 }

func sendSignal(int, syscall.Signal) error { return errors.ErrUnsupported }

func listenAgain(uintptr, int) error { return errors.ErrUnsupported }
