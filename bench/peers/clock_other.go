//go:build !linux

package main

import (
	"errors"
	"time"
)

func processorTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

func residentKiB(int) (float64, error) { return 0, errors.ErrUnsupported }
