package follow

import (
	"context"
	"os"
	"testing"

	"github.com/pgtether/pgtether/test/rig"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pgtether-follow-")
	if err == nil {
		binary, err = rig.Build(context.Background(), dir)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}
