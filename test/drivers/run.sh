#!/usr/bin/env bash
# The drivers' own test suites, straight to a server and through pgtether; prints what fails only behind pgtether and fails if anything does.
# Fetches the sources once into .cache/drivers (versions pinned here). Needs Go, Python 3.9+, Node, Java 17+, Maven and PostgreSQL's libpq-dev.
#
#   test/drivers/run.sh [-suites pgx,lib/pq,psycopg2,pgjdbc,psycopg,node-postgres] [-ways terminated,passthrough]
set -euo pipefail
cd "$(dirname "$0")/../.."

pgx=v5.12.0 pq=v1.12.3 psycopg2=2.9.13 pgjdbc=42.7.13 psycopg=3.3.9 node=8.23.1
cache=$PWD/.cache/drivers
mkdir -p "$cache"

want() { # whether the suite is to run
  local suites=all previous=
  for a in "${arguments[@]}"; do
    case $previous in -suites|--suites) suites=$a ;; esac
    case $a in -suites=*|--suites=*) suites=${a#*=} ;; esac
    previous=$a
  done
  [ "$suites" = all ] || [[ ",$suites," == *",$1,"* ]]
}
arguments=("$@")

done_once() { [ "$(cat "$cache/$1.version" 2>/dev/null)" = "$2" ]; }
mark_done() { echo "$2" >"$cache/$1.version"; }

# module NAME PATH VERSION: a Go module's source with its tests, in a place where they may write.
module() {
  done_once "$1" "$3" && return
  echo "drivers: fetching $2 $3"
  local from
  from=$(cd "$(mktemp -d)" && go mod init fetch >/dev/null 2>&1 && go mod download -json "$2@$3" | sed -n 's/.*"Dir": "\(.*\)",\{0,1\}$/\1/p')
  rm -rf "${cache:?}/$1"
  cp -r "$from" "$cache/$1"
  chmod -R u+w "$cache/$1"
  (cd "$cache/$1" && go mod download)
  mark_done "$1" "$3"
}

# copied GROUP:ARTIFACT:VERSION:TYPE:CLASSIFIER: one file from Maven's repository.
copied() {
  mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -Dartifact="$1" -DoutputDirectory="$2" </dev/null
}

if want pgx; then module pgx github.com/jackc/pgx/v5 $pgx; fi
if want lib/pq; then
  module pq github.com/lib/pq $pq
  # The servers' account must read the key, and nobody else may.
  rm -rf "$cache/pq-certs"
  mkdir -p "$cache/pq-certs"
  cp "$cache"/pq/testdata/ssl/{root,server}.crt "$cache"/pq/testdata/ssl/server.key "$cache/pq-certs"
  chmod 0600 "$cache"/pq-certs/server.key "$cache"/pq/testdata/ssl/*.key
  if [ "$(id -u)" = 0 ]; then chown "${PGTETHER_LAB_ACCOUNT:-postgres}" "$cache"/pq-certs/server.key; fi
fi
if want psycopg2 || want psycopg; then
  if ! done_once venv "$psycopg2 $psycopg"; then
    echo "drivers: fetching psycopg2 $psycopg2 and psycopg $psycopg"
    rm -rf "$cache/venv" "$cache/psycopg2"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" -q install pytest "psycopg[binary]==$psycopg"
    "$cache/venv/bin/pip" -q download --no-deps --no-binary :all: -d "$cache" "psycopg2==$psycopg2"
    "$cache/venv/bin/pip" -q install "$cache/psycopg2-$psycopg2.tar.gz"
    tar -xzf "$cache/psycopg2-$psycopg2.tar.gz" -C "$cache"
    mv "$cache/psycopg2-$psycopg2" "$cache/psycopg2"
    mark_done venv "$psycopg2 $psycopg"
  fi
fi
if want node-postgres && ! done_once node $node; then
  echo "drivers: fetching node-postgres $node"
  mkdir -p "$cache/node"
  (cd "$cache/node" && npm install --silent --no-fund --no-audit "pg@$node" pg-cursor@2 pg-copy-streams@7)
  mark_done node $node
fi
if want pgjdbc && ! done_once pgjdbc $pgjdbc; then
  echo "drivers: fetching and compiling pgjdbc $pgjdbc (a few minutes)"
  copied "org.postgresql:postgresql:$pgjdbc:tar.gz:jdbc-src" "$cache"
  rm -rf "$cache/pgjdbc"
  mkdir "$cache/pgjdbc"
  tar -xzf "$cache/postgresql-$pgjdbc-jdbc-src.tar.gz" -C "$cache/pgjdbc" --strip-components=1
  # One test that exists, so that the test runner itself is fetched too.
  (cd "$cache/pgjdbc" && mvn -q -B test -Dtest=Base64Test,PGbyteaTest -DfailIfNoTests=false </dev/null)
  mark_done pgjdbc $pgjdbc
fi

go build -o bin/pgtether ./cmd/pgtether
mkdir -p .cache/bin
go build -o .cache/bin/drivers ./test/drivers
exec .cache/bin/drivers -cache "$cache" "$@"
