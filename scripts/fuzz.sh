#!/usr/bin/env bash
# Runs every fuzz target of the module for a while, one after the other: scripts/fuzz.sh [time per target, default 20s].
# Go fuzzes one target of one package per run, hence the list. A crasher ends the run and is left under testdata/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

each=${1:-20s}
count=0
while read -r dir; do
  package=./${dir#./}
  for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/^func //' | sort); do
    count=$((count + 1))
    printf 'fuzz %s %s for %s\n' "$package" "$target" "$each"
    go test -run '^$' -fuzz "^${target}\$" -fuzztime "$each" "$package" </dev/null
  done
done < <(grep -rlE --exclude-dir='.*' '^func Fuzz' --include='*_test.go' -- * | xargs -r -n1 dirname | sort -u)
[ "$count" -gt 0 ] || { echo "fuzz: no fuzz target found" >&2; exit 1; }
printf 'fuzz: %d targets, %s each, no crash\n' "$count" "$each"
