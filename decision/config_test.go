package decision

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAConfigurationThatIsWrongIsRefusedWithEveryReason(t *testing.T) {
	if err := testConfig("region-a", "region-b").Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no nodes":       {func(c *Config) { c.Nodes = nil }, "no node is configured"},
		"no name":        {func(c *Config) { c.Nodes[1].Name = "" }, "node 2: name and address are needed"},
		"no address":     {func(c *Config) { c.Nodes[0].Address = "" }, "node 1: name and address are needed"},
		"one name twice": {func(c *Config) { c.Nodes[1].Name = "region-a" }, `node "region-a" is configured twice`},
		"one address twice": {func(c *Config) { c.Nodes[1].Address = c.Nodes[0].Address },
			`nodes "region-a" and "region-b" have the same address "10.0.0.11:5432"`},
		"no mode":            {func(c *Config) { c.Mode = 0 }, "mode: not one of auto, manual, observe"},
		"no tick":            {func(c *Config) { c.TickInterval = 0 }, "tick interval must be above 0, is 0s"},
		"no probe interval":  {func(c *Config) { c.ProbeInterval = -1 }, "probe interval must be above 0, is -1ns"},
		"no probe timeout":   {func(c *Config) { c.ProbeTimeout = 0 }, "probe timeout must be above 0, is 0s"},
		"no stable time":     {func(c *Config) { c.StableFor = 0 }, "stable_for must be above 0, is 0s"},
		"no start timeout":   {func(c *Config) { c.PrimaryStartTimeout = 0 }, "primary_start_timeout must be above 0, is 0s"},
		"negative anti_flap": {func(c *Config) { c.AntiFlap = -time.Hour }, "anti_flap must not be negative, is -1h0m0s"},
	} {
		cfg := testConfig("region-a", "region-b")
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	both := testConfig("region-a", "region-a")
	both.StableFor = 0
	if err := both.Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two mistakes are reported as %v", err)
	}
	var bad Config
	if err := bad.Validate(); !errors.Is(err, ErrMode) {
		t.Errorf("the mode's mistake is not told by its type: %v", err)
	}
}

func TestModesAreReadAsTheyAreWritten(t *testing.T) {
	for _, m := range []Mode{ModeObserve, ModeManual, ModeAuto} {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%s is read as %s, %v", m, got, err)
		}
	}
	for _, word := range []string{"", "Auto", "invalid", "observe "} {
		if _, err := ParseMode(word); !errors.Is(err, ErrMode) {
			t.Errorf("%q: %v", word, err)
		}
	}
}

func TestTimesDerivedFromTheConfiguration(t *testing.T) {
	c := testConfig("region-a")
	if c.FreshFor() != 4*time.Second || c.StallAfter() != 2*time.Second {
		t.Errorf("fresh for %s, stalled after %s", c.FreshFor(), c.StallAfter())
	}
	c.TickInterval = 5 * time.Second
	if c.StallAfter() != 10*time.Second {
		t.Errorf("stalled after %s with a slow tick: it would stall all the time", c.StallAfter())
	}
}
