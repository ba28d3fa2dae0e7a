package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what the configuration says about itself.
type Config struct {
	successful, timestamp prometheus.Gauge
}

func newConfig(r *registrar) *Config {
	return &Config{
		successful: r.gauge("pgtether_config_last_reload_successful",
			"1 when the last reading of the configuration file was taken over; 0 when it was refused and the one before it stays in force."),
		timestamp: r.gauge("pgtether_config_last_reload_timestamp_seconds",
			"When the configuration file was last read, at the start or by a reload, whether or not it was taken over."),
	}
}

// Reloaded records the outcome of reading the configuration file, at the start or by a reload.
func (c *Config) Reloaded(ok bool, at time.Time) {
	c.successful.Set(oneIf(ok))
	c.timestamp.Set(float64(at.UnixMilli()) / 1000)
}

// oneIf is 1 for true and 0 for false.
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
