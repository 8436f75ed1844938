#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves that a clone of the committed tree works on a machine that has nothing: makes a minimal Debian or Ubuntu root,
# clones into it, and runs each argument there as one command line, with an empty environment and no git identity.
#   tests/launch/minimal_root.sh ['COMMAND' ...]      default: launch/deps, launch/deps again, launch/check, launch/quickstart
# Environment: FARSIGHT_MIRROR  package mirror (default: the one in this machine's apt configuration)
#              FARSIGHT_SUITE   release name (default: this machine's)
#              FARSIGHT_ROOT    directory for the root; kept and used again (default: a temporary one, removed at the end)
# Skipped (exit 77) without root, debootstrap, a mirror or the right to mount.
set -euo pipefail

source_tree=$(cd "$(dirname "$0")/../.." && pwd -P)
skip() {
  echo "SKIP: $1"
  exit 77
}
[[ $(id -u) -eq 0 ]] || skip "needs root (chroot and mount)"
PATH=$PATH:/usr/sbin:/sbin
command -v debootstrap >/dev/null || skip "debootstrap is not installed"
unshare --mount --pid --fork true 2>/dev/null || skip "this machine does not allow mount and process namespaces"

# The distribution's own sources as apt sees them: "URI SUITE COMPONENT", whatever the format of the files in /etc/apt.
apt_sources() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT) $(CODENAME)' 'Created-By: Packages' |
    sed -nE 's/^(Debian|Ubuntu) //p' | sort -u
}
# shellcheck disable=SC1091
suite=${FARSIGHT_SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
mirror=${FARSIGHT_MIRROR:-$(apt_sources | awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }')}
[[ $suite && $mirror ]] || skip "no mirror for '$suite' in apt's lists (apt-get update fills them); set FARSIGHT_MIRROR"

root=${FARSIGHT_ROOT:-$(mktemp -d "${TMPDIR:-/tmp}/farsight-root.XXXXXX")}
cleanup() { [[ ${FARSIGHT_ROOT:-} ]] || rm -rf --one-file-system "$root"; }
trap cleanup EXIT

make_root() {
  echo "== debootstrap --variant=minbase $suite"
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.debootstrap.log" 2>&1 || { tail -n 5 "$root.debootstrap.log" && return 1; }
  rm -f "$root.debootstrap.log"
  if [[ ! ${FARSIGHT_MIRROR:-} ]]; then
    apt_sources | awk '{ print "deb " $1 " " $2 " " $3 }' >"$root/etc/apt/sources.list"
  fi
  # Proxies, retries, time checks and credentials of this machine's apt; its keys and certificates.
  apt-config dump Acquire | grep -E '^Acquire::(http|https|ftp|Retries|Check-)' >"$root/etc/apt/apt.conf.d/90host" || true
  local path
  for path in /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/apt/keyrings /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d \
    /usr/share/keyrings /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf; do
    [[ -e $path ]] || continue
    mkdir -p "$root${path%/*}"
    cp -aL --no-target-directory "$path" "$root$path"
  done
}
[[ -x $root/usr/bin/apt-get ]] || make_root

# The root has no git yet: the clone is made from outside, of what is committed.
rm -rf "$root/farsight"
git -c safe.directory='*' clone -q --no-hardlinks "file://$source_tree" "$root/farsight"
chown -R 0:0 "$root/farsight"
echo "== clone of $(git -C "$source_tree" rev-parse --short HEAD)"

proxies=()
for name in http_proxy https_proxy no_proxy; do [[ ${!name:-} ]] && proxies+=("$name=${!name}"); done
inside() {
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child bash -c '
    root=$1 && shift && mount --make-rprivate / && mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
    exec chroot "$root" "$@"' inside "$root" \
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${proxies[@]}" \
    bash -c "cd /farsight && $1"
}
(($#)) || set -- launch/deps launch/deps launch/check launch/quickstart
for command in "$@"; do
  echo "== $command"
  SECONDS=0
  inside "$command" || { status=$? && echo "FAILED ($status): $command" && exit 1; }
  echo "== ok in $SECONDS s: $command"
done
