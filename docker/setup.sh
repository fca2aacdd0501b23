#!/usr/bin/env bash
# Set up everything that sealed runs of closed models need: a Docker daemon, a base image, the runner.
#
#   docker/setup.sh                      the image carries its own Python environment, from the package registry
#   docker/setup.sh --offline            the installed Python environment is shared read-only with the image
#   docker/setup.sh --base IMAGE         on another base image, named by digest: one with CUDA, for example
#   docker/setup.sh --daemon             only start the daemon
#
# The base is made of Debian's packages, whose signatures debootstrap checks: no image registry is asked.
# Needs Docker (Debian: apt-get install docker.io) and, unless --base is given, debootstrap and root. Prints the image's
# name.
set -euo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
name="energylab-closed"
base="" offline=0 daemon_only=0
mirror="${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
suite="bookworm"
made_base="energylab-base:$suite"
# What a Python built elsewhere on the same Debian links to, and the tools that check the seal.
libraries="ca-certificates,libssl3,libffi8,libsqlite3-0,libbz2-1.0,liblzma5,zlib1g,libreadline8,libncursesw6,libuuid1,libexpat1,libgomp1,libstdc++6,python3,python3-venv"

while [ $# -gt 0 ]; do
  case "$1" in
    --base) base="${2:?--base needs an image}"; shift 2 ;;
    --offline) offline=1; shift ;;
    --daemon) daemon_only=1; shift ;;
    --name) name="${2:?--name needs a name}"; shift 2 ;;
    *) echo "unknown option $1; allowed: --base IMAGE, --offline, --daemon, --name NAME" >&2; exit 2 ;;
  esac
done

say() { echo "setup: $*" >&2; }

start_daemon() {
  docker info >/dev/null 2>&1 && return
  command -v dockerd >/dev/null || { say "no dockerd here: apt-get install docker.io"; exit 3; }
  [ "$(id -u)" = 0 ] || { say "no Docker daemon answers, and only root can start one: sudo systemctl start docker"; exit 3; }
  log="$(mktemp /tmp/dockerd-XXXXXX.log)"
  say "starting dockerd without bridge and without firewall rules (log: $log)"
  # The sealed runner has no network, so the daemon needs none: this starts in containers and small machines too.
  setsid dockerd --iptables=false --ip6tables=false --bridge=none >"$log" 2>&1 </dev/null 9>&- &
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && return
    sleep 0.5
  done
  say "dockerd did not start:"; tail -n 5 "$log" >&2; exit 3
}

make_base() {
  docker image inspect "$made_base" >/dev/null 2>&1 && return
  command -v debootstrap >/dev/null || { say "no debootstrap here: apt-get install debootstrap"; exit 3; }
  folder="$(mktemp -d)"
  say "making $made_base from Debian's packages"
  debootstrap --variant=minbase --include="$libraries" "$suite" "$folder" "$mirror" >"$folder.log" 2>&1 ||
    { say "debootstrap failed:"; tail -n 5 "$folder.log" >&2; exit 4; }
  rm -rf "$folder"/var/cache/apt "$folder"/var/lib/apt/lists "$folder"/usr/share/doc "$folder"/usr/share/locale
  tar -C "$folder" --numeric-owner --one-file-system -c . | docker import - "$made_base" >/dev/null
  rm -rf "$folder" "$folder.log"
}

build() { # target, base
  say "building $name ($1) on $2"
  tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime='2020-01-01 00:00Z' --exclude='__pycache__' \
    -c docker/Dockerfile energylab energylab_portal params pyproject.toml constraints.txt README.md LICENSE notebooks/05-report.ipynb |
    docker build --quiet --target "$1" --build-arg BASE="$2" ${3:-} -t "$name" -f docker/Dockerfile - >/dev/null
}

# One at a time: two callers must not make the same base twice, or start two daemons.
exec 9>"${TMPDIR:-/tmp}/energylab-docker-setup.lock"
flock 9
start_daemon
[ "$daemon_only" = 1 ] && exit 0
export DOCKER_BUILDKIT="${DOCKER_BUILDKIT:-0}"
[ -n "$base" ] || { make_base; base="$made_base"; }
if [ "$offline" = 1 ]; then build shared "$base" "--network=none"; else build installed "$base" "--network=host"; fi
docker image inspect --format '{{.Id}}' "$name" >&2
echo "$name"
