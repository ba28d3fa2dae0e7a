// Package rig puts the built binary in front of a lab, as a user would: `pgtether serve` as a process of its own, with a
// configuration file, spoken to over PostgreSQL's protocol and its HTTP interface.
//
// Stop ends the process and waits for it; when the program that started it is killed, the kernel ends the process too. The rig never
// reaches into the product's code.
package rig
