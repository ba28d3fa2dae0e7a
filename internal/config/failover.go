package config

// checkFailover checks what is asked of a change of the writer against who changes it, and with what.
func checkFailover(f *File, r *report) {
	o := f.Failover
	if r.refused("failover.mode") {
		return
	}
	if o.Mode == "observe" {
		const noEffect = `has no effect in mode "observe": others promote, and pgtether follows whatever they did; remove it, or write mode = "auto" or "manual"`
		for _, key := range []struct {
			path string
			set  bool
		}{{"failover.require_lossless", o.RequireLossless}, {"failover.require_fence", o.RequireFence}, {"hooks.fence", f.Hooks.Fence != ""}} {
			if key.set {
				r.warn(key.path, noEffect)
			}
		}
		return
	}
	if o.RequireFence && f.Hooks.Fence == "" {
		r.refuse("failover.require_fence", "needs hooks.fence: without a program that fences the old writer nothing would ever be promoted; "+
			"set fence in [hooks], or write require_fence = false")
	}
	if len(f.Nodes) > 1 && o.Mode == "auto" && f.Hold.Login <= o.StableFor && !r.refused("hold.login") && !r.refused("failover.stable_for") {
		path := "hold.login"
		if r.lines[path] == 0 && r.lines["failover.stable_for"] > 0 {
			path = "failover.stable_for"
		}
		r.warn(path, "hold.login (%s) is not longer than failover.stable_for (%s): a login that waits is refused before a failover can begin; "+
			"raise hold.login or lower failover.stable_for", f.Hold.Login, o.StableFor)
	}
}
