#!/usr/bin/env bash
# Builds the images pgtether:latest and pgtether:trial with whichever of docker, podman and buildah works on this machine.
# Base images can be named: GO_IMAGE=... POSTGRES_IMAGE=... make docker
set -euo pipefail
cd "$(dirname "$0")/.."

builder=()
if command -v docker >/dev/null && docker info >/dev/null 2>&1; then builder=(docker build)
elif command -v podman >/dev/null; then builder=(podman build --format docker)
elif command -v buildah >/dev/null; then builder=(buildah build --format docker)
else echo "docker: none of docker, podman and buildah works here" >&2; exit 1; fi

args=(--build-arg "VERSION=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)")
[ -z "${GO_IMAGE:-}" ] || args+=(--build-arg "GO_IMAGE=$GO_IMAGE")
[ -z "${POSTGRES_IMAGE:-}" ] || args+=(--build-arg "POSTGRES_IMAGE=$POSTGRES_IMAGE")
"${builder[@]}" "${args[@]}" --target proxy -t pgtether:latest .
"${builder[@]}" "${args[@]}" --target trial -t pgtether:trial .
printf 'docker: built pgtether:latest and pgtether:trial; try: docker run --rm -p 6432:6432 -p 7432:7432 pgtether:trial\n'
