package config

import (
	"errors"
	"strings"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/proxy"
)

// tickInterval is how often the failover engine is told that time has passed while it waits for that. It is not for users to choose: the engine's
// freshness is measured in probe intervals, which are.
const tickInterval = 100 * time.Millisecond

// Proxy returns what the data plane needs.
func (f *File) Proxy() proxy.Config {
	return proxy.Config{
		Listen: proxy.ListenConfig{
			TLS: proxy.TLSMode(f.Listen.TLS), Cert: f.Listen.TLSCert, Key: f.Listen.TLSKey, ClientCA: f.Listen.TLSClientCA,
			Replication: f.Listen.Replication,
		},
		Backend: proxy.BackendConfig{
			TLS: proxy.BackendTLS(f.Backend.TLS), CA: f.Backend.TLSCA, Cert: f.Backend.TLSCert, Key: f.Backend.TLSKey,
			ConnectTimeout: f.Backend.ConnectTimeout.Std(),
		},
		Hold: proxy.HoldConfig{
			Login: f.Hold.Login.Std(), Session: f.Hold.Session.Std(), Max: f.Hold.Max, ReleasePerSecond: f.Hold.ReleasePerSecond,
		},
		Limits: proxy.LimitsConfig{
			MaxClients: f.Limits.MaxClients, PerUser: f.Limits.PerUser, PerDatabase: f.Limits.PerDatabase, PerAddress: f.Limits.PerAddress,
			StartupTimeout: f.Limits.StartupTimeout.Std(), LoginsUnderWay: f.Limits.LoginsUnderWay, TLSHandshakes: f.Limits.TLSHandshakes,
		},
		DrainTimeout: f.Drain.Timeout.Std(),
		Continuity:   proxy.ContinuityConfig{Mode: proxy.ContinuityMode(f.Continuity.Mode), MovesAtOnce: f.Continuity.MovesAtOnce},
		SCRAM:        f.Auth.Scram,
		Verifiers:    f.Auth.source(),
	}
}

// source says where verifiers come from.
func (a Auth) source() proxy.Verifiers {
	switch {
	case a.VerifierFile != "":
		return proxy.VerifiersAtHand
	case a.VerifierLookup != "":
		return proxy.VerifiersAsked
	default:
		return proxy.VerifiersNone
	}
}

// Decision returns what the failover engine needs.
func (f *File) Decision() decision.Config {
	nodes := make([]decision.Node, len(f.Nodes))
	for i, n := range f.Nodes {
		nodes[i] = decision.Node{Name: n.Name, Address: n.Address}
	}
	// The word was checked against the list of modes; an unknown one stays the invalid zero mode, which the engine refuses.
	mode, _ := decision.ParseMode(f.Failover.Mode)
	return decision.Config{
		Nodes: nodes, Mode: mode, TickInterval: tickInterval,
		ProbeInterval: f.Probe.Interval.Std(), ProbeTimeout: f.Probe.Timeout.Std(),
		StableFor: f.Failover.StableFor.Std(), MaxLagBytes: uint64(f.Failover.MaxLag.Bytes()),
		RequireLossless: f.Failover.RequireLossless, RequireFence: f.Failover.RequireFence,
		AntiFlap: f.Failover.AntiFlap.Std(), PrimaryStartTimeout: f.Failover.PrimaryStartTimeout.Std(),
		PromoteTimeout: f.Failover.PromoteTimeout.Std(), FenceHook: f.Hooks.Fence != "",
		DrainTimeout: f.Drain.Timeout.Std(), HoldSession: f.Hold.Session.Std(),
	}
}

// Health returns what the probers need. It holds the password of the probe's role.
func (f *File) Health() health.Config {
	return health.Config{
		User: f.Probe.User, Password: f.ProbePassword().Reveal(), Database: f.Probe.Database,
		Interval: f.Probe.Interval.Std(), Timeout: f.Probe.Timeout.Std(),
		TLS: health.TLS{Mode: f.Backend.TLS, CAFile: f.Backend.TLSCA, CertFile: f.Backend.TLSCert, KeyFile: f.Backend.TLSKey},
	}
}

// HookSettings returns the operator's own programs, command lines for a shell of which an empty one means none, and how long each may run.
func (f *File) HookSettings() (fence, onEvent string, timeout time.Duration) {
	return f.Hooks.Fence, f.Hooks.OnEvent, f.Hooks.Timeout.Std()
}

// checkRooms asks the rooms themselves. Whatever they refuse was to be refused here before, with a line; this is what makes sure that nothing that
// they cannot work with ever reaches them.
func checkRooms(f *File, r *report) {
	if len(r.problems) > 0 {
		return
	}
	for _, err := range []error{f.Proxy().Validate(), f.Health().Validate(), f.Decision().Validate()} {
		var invalid *proxy.InvalidError
		switch {
		case errors.As(err, &invalid):
			r.refuse(invalid.Key, "%s", invalid.Want).Err = err
		case err != nil:
			r.refuse("", "%s", strings.ReplaceAll(err.Error(), "\n", "; ")).Err = err
		}
	}
}
