// Package config reads the configuration file of pgtether.
//
// It guarantees that
//
//   - what is loaded is complete and consistent: every key was known, of the right type, within its bounds and without contradiction, and every
//     file that it names (passwords, tokens, certificates) was there and could be read;
//   - every problem of a file is reported at once, each with file, line, key and what would be right;
//   - a key whose feature this version does not have is refused when it is set: nothing is accepted and ignored;
//   - a secret is never printed, whatever verb, logger or encoder meets it;
//   - a reload that is refused changes nothing: the last good configuration stays.
//
// It never connects to anything, never writes a file, and holds no global state. The other rooms own their Config types; this one owns the
// document, its defaults and its words.
package config
