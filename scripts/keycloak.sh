#!/usr/bin/env bash
# Keycloak through pgtether: fetches the official distribution once (Maven, pinned version and checksum, cached in .cache/), builds it
# for PostgreSQL once, then has the built test/keycloak boot it against a lab behind pgtether and use it. KEEP=1 stays up until Ctrl-C.
# `make keycloak` builds what this needs and calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=26.7.3
sha512=664c8ac2997d94b69825af70acc3a6017a7a53a1504a6e21b2d82a04e5f53593b30cabdf80ffe3eb661f13442a57fbc15c4186a1899f2841e8145532e5ae7e1c
cache=$PWD/.cache/keycloak
archive=$cache/keycloak-quarkus-dist-$version.tar.gz
home=$cache/$version

scripts/setup.sh keycloak

checksum_ok() { [ -f "$archive" ] && echo "$sha512  $archive" | sha512sum --check --status; }

if [ ! -f "$home/.built" ]; then
  mkdir -p "$cache"
  if ! checksum_ok; then
    echo "keycloak: fetching Keycloak $version (176 MB) through Maven"
    rm -f "$archive"
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
      -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:tar.gz" -DoutputDirectory="$cache" </dev/null
    checksum_ok || { echo "keycloak: $archive does not have the pinned SHA-512 checksum; removed" >&2; rm -f "$archive"; exit 1; }
  fi
  echo "keycloak: unpacking and building it for PostgreSQL (20 s on two idle cores)"
  rm -rf "$home" "$home.new"
  mkdir "$home.new"
  tar -xzf "$archive" -C "$home.new" --strip-components=1
  log=$(mktemp)
  JAVA_OPTS_KC_HEAP="-Xms128m -Xmx512m" "$home.new/bin/kc.sh" build --db=postgres --health-enabled=true </dev/null >"$log" 2>&1 \
    || { tail -n 40 "$log" >&2; echo "keycloak: kc.sh build failed" >&2; exit 1; }
  rm -f "$log"
  touch "$home.new/.built"
  mv "$home.new" "$home"
fi

flags=(-home "$home" -pgtether bin/pgtether)
[ -z "${KEEP:-}" ] || flags+=(-keep)
[ -z "${FAILOVER:-}" ] || flags+=(-failover "$FAILOVER" -users 10)
[ -z "${SWITCHOVERS:-}" ] || flags+=(-switchovers "$SWITCHOVERS")
exec .cache/bin/keycloak "${flags[@]}"
