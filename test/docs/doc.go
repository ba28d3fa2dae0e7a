// Package docs holds the README and the pages below docs/ against the tree: every command that they show must exist with its flags, every file
// they name must be there, every metric must be a real one, and what they call run by CI must be run by it.
//
// It reads the pages, the Makefile, .ci/run and the built command's own help; it changes nothing.
package docs
