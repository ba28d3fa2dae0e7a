// Command peers puts the same load on pgtether, HAProxy, PgBouncer (session pooling), a plain io.Copy proxy and PostgreSQL itself, and
// reports what each cost: processor time from the kernel's own clock of the process, rates, latencies, memory.
//
// What makes the numbers comparable: all peers run side by side in front of one server, and only one is under load at a time; in each
// round every peer is measured once, in an order that turns from round to round, so that a machine that grows slower burdens them all
// alike; every measurement begins with new sessions on the server; the selects read few rows, so that the slowest transactions are not those
// that met a page of the tables which their session had not touched before; and ratios are taken within each round before their median is
// taken.
// The report holds every single measurement, those that speak against pgtether and those that failed included. A peer's processor time
// counts its whole process and is read while the load is steady: neither logins at the start nor goodbyes at the end are in it, but where
// they are what is measured.
//
// What it never does: touch a process that it has not started, listen on anything but loopback, or leave something running, interrupted
// or not.
package main
