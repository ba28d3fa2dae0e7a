#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing else. Safe to repeat; quick when nothing is missing.
#
#   scripts/setup.sh [lab] [test] [follow] [peers] [race] [keycloak] [drivers] [docker]      default: test
#
#   lab       PostgreSQL server and client programs, 13 or newer: what `make demo` and `make lab` need
#   test      the same; npm, which fetches PostgreSQL 18's server; a JDK (17 or newer) and Maven, for the test that goes through JDBC;
#             libfaketime, for servers whose clock is stepped; and what follow and peers bring
#   follow    PostgreSQL; Patroni, etcd and repmgr, for the tests in which one of them promotes and pgtether follows
#   peers     PostgreSQL; HAProxy and PgBouncer, which `make bench-peers` measures pgtether against
#   race      a C compiler, which Go's race detector needs
#   keycloak  PostgreSQL; Java 17 or newer and Maven
#   drivers   Python with venv, libpq's headers and a C compiler, for psycopg2
#   docker    buildah and mmdebstrap, to build images without a daemon and without an image registry
#
# Debian's packages would create and start a database cluster, and start etcd, Patroni, repmgrd, HAProxy and PgBouncer, now and at every
# boot; that is suppressed, so that no process is left behind. Nothing that runs is stopped or restarted.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

have_go() {
  command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer from https://go.dev/dl/ and put it in PATH"
}

have_postgres() {
  local postgres major
  for postgres in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres "$(command -v postgres || true)"; do
    [ -x "$postgres" ] || continue
    major=$("$postgres" --version | sed -E 's/.*\(PostgreSQL\) ([0-9]+).*/\1/')
    [ "$major" -ge 13 ] && [ -x "$(dirname "$postgres")/initdb" ] && [ -x "$(dirname "$postgres")/pg_basebackup" ] \
      && [ -x "$(dirname "$postgres")/pgbench" ] && command -v psql >/dev/null && return 0
  done
  return 1
}

have_cc() { command -v gcc >/dev/null && [ -e /usr/include/stdlib.h ]; }

have_java() {
  command -v java >/dev/null && command -v mvn >/dev/null || return 1
  local major
  major=$(java -version 2>&1 | sed -nE '1s/.*"([0-9]+).*/\1/p')
  [ "${major:-0}" -ge 17 ]
}

have_javac() { have_java && command -v javac >/dev/null; }

have_npm() { command -v npm >/dev/null && command -v node >/dev/null; }

have_python() { python3 -c 'import venv, ensurepip' 2>/dev/null && command -v pg_config >/dev/null && have_cc; }

# What steps the clock of a server that a test runs.
have_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null; }

have_etcd() { command -v etcd >/dev/null; }

have_patroni() { command -v patroni >/dev/null && command -v patronictl >/dev/null; }

# repmgr belongs to one major version of the server: that of the servers that the tests start, the newest one of the machine.
newest_postgres() { ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sed -E 's|.*/([0-9]+)/bin/postgres|\1|' | sort -n | tail -n 1; }

have_repmgr() { [ -x "/usr/lib/postgresql/$(newest_postgres)/bin/repmgr" ]; }

# Debian keeps both where only root's PATH looks.
have_haproxy() { [ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null; }

have_pgbouncer() { [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null; }

have_images() { command -v buildah >/dev/null && command -v mmdebstrap >/dev/null; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    die "run this as root, or install by hand: ${packages[*]}"
  fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1 \
    || { tail -n 40 "$log" >&2; die "apt-get could not install $*"; }
}

# Creating the cluster is switched off while the server package is installed; the file is put back as it was afterwards.
install_postgres() {
  local conf=/etc/postgresql-common/createcluster.conf
  apt_install postgresql-common
  as_root cp -p "$conf" "$conf.before-pgtether"
  as_root sed -i -E 's/^#?\s*create_main_cluster\s*=.*/create_main_cluster = false/' "$conf"
  trap "as_root mv -f $conf.before-pgtether $conf" EXIT
  apt_install postgresql postgresql-contrib postgresql-client
  as_root mv -f "$conf.before-pgtether" "$conf"
  trap - EXIT
}

# install_asleep PACKAGE...: installs packages that bring services, and keeps those from starting now and at boot.
install_asleep() {
  local policy=/usr/sbin/policy-rc.d package service
  [ ! -e "$policy" ] || as_root mv -f "$policy" "$policy.before-pgtether"
  trap "as_root rm -f $policy; [ ! -e $policy.before-pgtether ] || as_root mv -f $policy.before-pgtether $policy" EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root install -m 0755 /dev/stdin "$policy"
  apt_install "$@"
  for package in "$@"; do
    case $package in
      etcd-server) service=etcd ;;
      patroni | haproxy | pgbouncer) service=$package ;;
      *) service=repmgrd ;;
    esac
    as_root update-rc.d "$service" disable >"$log" 2>&1 || { cat "$log" >&2; die "could not keep $service from starting at boot"; }
  done
  as_root rm -f "$policy"
  [ ! -e "$policy.before-pgtether" ] || as_root mv -f "$policy.before-pgtether" "$policy"
  trap - EXIT
}

# needs_of PART: what the part needs, each with a have_ function above.
needs_of() {
  case $1 in
    lab) echo postgres ;;
    test) echo postgres npm javac faketime etcd patroni repmgr haproxy pgbouncer ;;
    follow) echo postgres etcd patroni repmgr ;;
    peers) echo postgres haproxy pgbouncer ;;
    race) echo cc ;;
    keycloak) echo postgres java ;;
    drivers) echo python ;;
    docker) echo images ;;
    *) die "unknown part $1; want lab, test, follow, peers, race, keycloak, drivers or docker" ;;
  esac
}

# packages_of NEED: the Debian packages that bring it.
packages_of() {
  case $1 in
    postgres) echo postgresql ;;
    npm) echo npm ;;
    javac) echo default-jdk-headless maven ;;
    cc) echo gcc libc6-dev ;;
    java) echo default-jre-headless maven ;;
    python) echo python3-venv python3-dev libpq-dev gcc libc6-dev ;;
    images) echo buildah mmdebstrap ;;
    faketime) echo libfaketime ;;
    etcd) echo etcd-server ;;
    patroni | haproxy | pgbouncer) echo "$1" ;;
    repmgr) local major; major=$(newest_postgres); echo "${major:+postgresql-$major-}repmgr" ;;
  esac
}

have_go
[ $# -gt 0 ] || set -- test
missing=()
packages=()
for part in "$@"; do
  needs=$(needs_of "$part") || exit
  for need in $needs; do
    "have_$need" || { missing+=("$need"); packages+=($(packages_of "$need")); }
  done
done
if [ ${#missing[@]} = 0 ]; then exit 0; fi

command -v apt-get >/dev/null || die "missing: ${packages[*]} (names of Debian's packages); this script installs with apt-get only"
log=$(mktemp)
say "installing ${packages[*]} with apt-get (needs a minute)"
as_root apt-get update -qq </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get update failed"; }
others=()
asleep=()
for package in "${packages[@]}"; do
  case $package in
    postgresql) [ -n "${done_postgres:-}" ] || install_postgres; done_postgres=1 ;;
    etcd-server | patroni | *repmgr | haproxy | pgbouncer) asleep+=("$package") ;;
    *) others+=("$package") ;;
  esac
done
[ ${#others[@]} = 0 ] || apt_install "${others[@]}"
[ ${#asleep[@]} = 0 ] || install_asleep "${asleep[@]}"
rm -f "$log"
for need in "${missing[@]}"; do
  "have_$need" || die "$(packages_of "$need") installed, but what they should bring is still not found"
done
say "done"
