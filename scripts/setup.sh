#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing else. Safe to repeat; quick when nothing is missing.
#
#   scripts/setup.sh [test] [race] [keycloak] [drivers] [docker]      default: test
#
#   test      PostgreSQL server and client programs, 13 or newer; npm, which fetches PostgreSQL 18's server; a JDK (17 or newer) and Maven, for
#             the test that goes through JDBC
#   race      a C compiler, which Go's race detector needs
#   keycloak  Java 17 or newer, Maven
#   drivers   Python with venv, libpq's headers and a C compiler, for psycopg2
#   docker    buildah and mmdebstrap, to build images without a daemon and without an image registry
#
# Debian's package would create and start a database cluster of its own; that is suppressed, so that no process is left behind.
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

have_go
packages=()
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(test)
for what in "${wanted[@]}"; do
  case $what in
    test)
      have_postgres || packages+=(postgresql)
      have_npm || packages+=(npm)
      have_javac || packages+=(default-jdk-headless maven) ;;
    race) have_cc || packages+=(gcc libc6-dev) ;;
    keycloak) have_java || packages+=(default-jre-headless maven) ;;
    drivers) have_python || packages+=(python3-venv python3-dev libpq-dev gcc libc6-dev) ;;
    docker) have_images || packages+=(buildah mmdebstrap) ;;
    *) die "unknown part $what; want test, race, keycloak, drivers or docker" ;;
  esac
done
if [ ${#packages[@]} = 0 ]; then exit 0; fi

command -v apt-get >/dev/null || die "missing: ${packages[*]} (names of Debian's packages); this script installs with apt-get only"
log=$(mktemp)
say "installing ${packages[*]} with apt-get (needs a minute)"
as_root apt-get update -qq </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get update failed"; }
others=()
for package in "${packages[@]}"; do
  if [ "$package" = postgresql ]; then install_postgres; else others+=("$package"); fi
done
[ ${#others[@]} = 0 ] || apt_install "${others[@]}"
rm -f "$log"

for what in "${wanted[@]}"; do
  case $what in
    test)
      have_postgres || die "PostgreSQL 13 or newer is still not found"
      have_npm || die "npm is still not found"
      have_javac || die "a JDK (17 or newer) and Maven are still not found" ;;
    race) have_cc || die "a C compiler is still not found" ;;
    keycloak) have_java || die "Java 17 and Maven are still not found" ;;
    drivers) have_python || die "Python with venv, libpq-dev and a C compiler are still not found" ;;
    docker) have_images || die "buildah and mmdebstrap are still not found" ;;
  esac
done
say "done"
