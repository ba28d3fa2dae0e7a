#!/usr/bin/env bash
# Runs every fuzz target of the module for a while, one after the other: scripts/fuzz.sh [time per target, default 20s].
# Go fuzzes one target of one package per run, hence the list. A crasher ends the run and is left under testdata/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

each=${1:-20s}
count=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE TARGET: one run. Go's fuzzer now and then reports its own deadline as the target's failure, when that deadline finds a
# worker in the middle of a call (golang/go#75804). Such a run names no input; it is repeated, and must pass then.
fuzz() {
  local try
  for try in 1 2 3; do
    if go test -run '^$' -fuzz "^$2\$" -fuzztime "$each" -fuzzminimizetime 10x "$1" </dev/null 2>&1 | tee "$log"; then return 0; fi
    if grep -qE 'Failing input written|panic:|_test\.go:[0-9]+' "$log" || ! grep -qxE ' +context deadline exceeded' "$log"; then return 1; fi
    printf 'fuzz %s %s: the deadline of run %d came in the middle of a call; again\n' "$1" "$2" "$try"
  done
  return 1
}

while read -r dir; do
  package=./${dir#./}
  for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/^func //' | sort); do
    count=$((count + 1))
    printf 'fuzz %s %s for %s\n' "$package" "$target" "$each"
    fuzz "$package" "$target"
  done
done < <(grep -rlE --exclude-dir='.*' '^func Fuzz' --include='*_test.go' -- * | xargs -r -n1 dirname | sort -u)
[ "$count" -gt 0 ] || { echo "fuzz: no fuzz target found" >&2; exit 1; }
printf 'fuzz: %d targets, %s each, no crash\n' "$count" "$each"
