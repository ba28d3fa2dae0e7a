#!/usr/bin/env bash
# Builds both images of the Dockerfile without a daemon and without an image registry, and runs what is in them.
#
# buildah builds with chroot isolation and the vfs driver, which need no kernel features. The base images are made here: one from
# Debian's packages (PostgreSQL included) for the trial, and the same with this machine's Go for the build. They trust whom this
# machine trusts, so that modules can be fetched behind a company's proxy too.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh docker

[ "$(id -u)" = 0 ] || { echo "docker-check: needs root, to build images from Debian's packages" >&2; exit 1; }
work=$(mktemp -d)
# The store is ours alone, so that nothing of the user's images is touched.
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
store=(--root "$work/root" --runroot "$work/runroot")
container="" running=""
finish() {
  [ -z "$running" ] || { kill "$running" 2>/dev/null || true; wait "$running" 2>/dev/null || true; }
  [ -z "$container" ] || buildah "${store[@]}" rm "$container" >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap finish EXIT

say() { printf 'docker-check: %s\n' "$*"; }
quietly() { "$@" </dev/null >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; say "failed: $*" >&2; exit 1; }; }
# image NAME INSTRUCTIONS: a base image from $work/context.
image() { quietly buildah "${store[@]}" build --pull=never -t "localhost/$1" -f "$work/$1.Dockerfile" "$work/context"; }

say "making base images from Debian's packages"
mkdir "$work/context"
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
quietly mmdebstrap --mode=root --variant=essential --include=ca-certificates,postgresql,postgresql-contrib \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -rf "$1"/var/lib/postgresql/*/main "$1"/etc/postgresql/*' \
  --customize-hook='cp /etc/ssl/certs/ca-certificates.crt "$1"/etc/ssl/certs/' "$suite" "$work/context/rootfs.tar"
tar -cf "$work/context/go.tar" -C "$(go env GOROOT)" --transform='s,^\.,usr/local/go,' --exclude=./test --exclude=./api --exclude=./doc .
printf 'FROM scratch\nADD rootfs.tar /\n' >"$work/base-postgres.Dockerfile"
printf 'FROM localhost/base-postgres\nADD go.tar /\nENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin GOPATH=/go GOCACHE=/go/build\n' >"$work/base-go.Dockerfile"
image base-postgres
image base-go

say "building both targets"
build=(buildah "${store[@]}" build --pull=never --format docker --build-arg GO_IMAGE=localhost/base-go --build-arg POSTGRES_IMAGE=localhost/base-postgres
  --build-arg VERSION=docker-check -v "$(go env GOMODCACHE):/go/pkg/mod" -v "$(go env GOCACHE):/go/build")
quietly "${build[@]}" --target trial -t localhost/pgtether:trial .
quietly "${build[@]}" --target proxy -t localhost/pgtether:latest .

# free_port: a port of loopback that nothing listens on now.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}
# start IMAGE NAME COMMAND...: runs a container in the background, as its image says but for the command.
start() {
  container=$(buildah "${store[@]}" from --pull=never "$1")
  buildah "${store[@]}" run "${mounts[@]}" "$container" -- "${@:2}" </dev/null >"$work/log" 2>&1 &
  running=$!
}
# healthy ADMIN: waits until the image's own health check, run inside the container, passes.
healthy() {
  local check
  # Two runs that prepare the root of one container at the same time fail over each other's mount points.
  while [ -z "$(first_process "$running")" ] && kill -0 "$running" 2>/dev/null; do sleep 0.1; done
  check=$(buildah "${store[@]}" inspect --format '{{range .Docker.Config.Healthcheck.Test}}{{.}} {{end}}' "$container")
  [ "$check" = "CMD /usr/local/bin/pgtether status " ] || { say "unexpected health check: $check" >&2; exit 1; }
  for _ in $(seq 120); do
    buildah "${store[@]}" run --env "PGTETHER_ADMIN=http://127.0.0.1:$1" "${mounts[@]}" "$container" -- ${check#CMD } >"$work/health" 2>&1 && return 0
    kill -0 "$running" 2>/dev/null || break
    sleep 0.5
  done
  cat "$work/health" "$work/log" >&2; say "the health check never passed" >&2; exit 1
}
# first_process PID: the container's first process below a running buildah, which itself would kill it instead of passing SIGTERM on.
first_process() {
  local child
  for child in $(pgrep -P "$1"); do
    case $(readlink "/proc/$child/exe") in
      */usr/local/bin/pgtether) echo "$child"; return ;;
      *) first_process "$child" ;;
    esac
  done
}
# stop NAME: as `docker stop` does.
stop() {
  kill -TERM "$(first_process "$running")"; wait "$running" || { cat "$work/log" >&2; say "$1 did not end cleanly on SIGTERM" >&2; exit 1; }
  running=""
  quietly buildah "${store[@]}" rm "$container"; container=""
}

mounts=()
listen=$(free_port) admin=$(free_port)
say "running the trial"
mapfile -t entry < <(buildah "${store[@]}" inspect --type image --format '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}' localhost/pgtether:trial | sed '/^$/d')
start localhost/pgtether:trial "${entry[@]}" --listen "0.0.0.0:$listen" --admin-listen "0.0.0.0:$admin"
healthy "$admin"
answer=$(psql "postgresql://keycloak:keycloak@127.0.0.1:$listen/keycloak" -XAtc 'SELECT current_user || pg_is_in_recovery()')
[ "$answer" = keycloakfalse ] || { say "the trial answered: $answer" >&2; exit 1; }
stop "the trial"

say "running the proxy"
user=$(buildah "${store[@]}" inspect --type image --format '{{.OCIv1.Config.User}}' localhost/pgtether:latest)
[ "$user" = 65532:65532 ] || { say "the proxy runs as $user" >&2; exit 1; }
mkdir "$work/etc"
cat >"$work/etc/pgtether.toml" <<CONFIG
[listen]
address = "127.0.0.1:$listen"
[admin]
address = "127.0.0.1:$admin"
[[node]]
name = "region-a"
address = "127.0.0.1:$(free_port)"
[probe]
user = "pgtether"
[failover]
mode = "observe"
CONFIG
chmod -R a+rX "$work/etc" && chmod a+x "$work"
mounts=(-v "$work/etc:/etc/pgtether:ro")
start localhost/pgtether:latest /usr/local/bin/pgtether serve
healthy "$admin"
stop "the proxy"
say "both images build, run as an unprivileged user, pass their health check and end on SIGTERM"
