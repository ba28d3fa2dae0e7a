// Package archtest holds the house rules of this module as tests: who may import whom, that package decision stays pure, how
// long files and functions may be, and what every package must explain about itself.
//
// Each rule carries the reason for which it exists, and a violation names the place, the rule and that reason, so that the
// person who breaks one learns why before deciding whether the rule or the change is wrong. The checks are ordinary functions
// over parsed and type-checked source; their own tests feed them code that breaks each rule and demand the violation.
//
// The package never changes a file and is imported by nobody.
package archtest
