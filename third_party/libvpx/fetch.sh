#!/usr/bin/env bash
# Puts libvpx's source into the cache, from Debian's source package, and prints three
# lines: version, original tarball, Debian's packaging tarball (empty if there is none).
#
# The machine's own apt set-up is read (mirrors, proxies, keys) and turned to deb-src in
# a throwaway configuration: no root needed, nothing of the machine is changed.
#
#   LIBVPX_TARBALL=FILE   take this original tarball instead of fetching one
#   LIBVPX_CACHE=DIR      where downloads are kept (~/.cache/muzero_rc/libvpx)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=version.env
source "$here/version.env"
cache=${LIBVPX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/muzero_rc/libvpx}
orig_name=libvpx_$LIBVPX_VERSION.orig.tar.gz

say() { echo "libvpx: $*" >&2; }
die() {
  say "$*"
  exit 1
}

check_orig() {
  local found
  found=$(sha256sum "$1" | cut -d' ' -f1)
  [[ $found == "$LIBVPX_ORIG_SHA256" ]] || die "$1 is not the original tarball of" \
    "$LIBVPX_VERSION: SHA-256 $found, expected $LIBVPX_ORIG_SHA256; remove it and try again"
}

# The Debian version, out of libvpx_1.12.0-1+deb12u5.debian.tar.xz.
version_of() { basename "$1" .debian.tar.xz | sed 's/^libvpx_//'; }

# Newest of the packaging tarballs that lie in a folder; empty if there is none.
newest_packaging() {
  find "$1" -maxdepth 1 -name "libvpx_$LIBVPX_VERSION-*.debian.tar.xz" | sort -V | tail -n 1
}

report() {
  local version=$LIBVPX_VERSION
  [[ -z $2 ]] || version=$(version_of "$2")
  printf '%s\n%s\n%s\n' "$version" "$1" "$2"
}

if [[ -n ${LIBVPX_TARBALL:-} ]]; then
  [[ -f $LIBVPX_TARBALL ]] || die "LIBVPX_TARBALL=$LIBVPX_TARBALL: no such file"
  tarball=$(realpath "$LIBVPX_TARBALL")
  check_orig "$tarball"
  packaging=$(newest_packaging "$(dirname "$tarball")")
  [[ -n $packaging ]] || say "no libvpx_$LIBVPX_VERSION-*.debian.tar.xz beside" \
    "$tarball: building without Debian's security patches"
  report "$tarball" "$packaging"
  exit 0
fi

cached() { [[ -f $cache/SHA256SUMS ]] && (cd "$cache" && sha256sum --check --status SHA256SUMS); }

if cached; then
  check_orig "$cache/$orig_name"
  report "$cache/$orig_name" "$(newest_packaging "$cache")"
  exit 0
fi

hint="give the original tarball with LIBVPX_TARBALL=/path/to/$orig_name"
command -v apt-get >/dev/null || die "this machine has no apt-get; $hint"

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! cached; then
  mkdir -p "$work/parts" "$work/lists/partial" "$work/archives/partial" "$work/got"

  # Keep only the Debian entries: suite bookworm (or -updates, -security), component main.
  # A machine of another Debian release is asked for bookworm's packages from its mirrors.
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  suites="(${codename:-$LIBVPX_SUITE}|$LIBVPX_SUITE)(-updates|-security|/updates)?"
  shopt -s nullglob
  number=0
  for source in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    [[ -f $source ]] || continue
    number=$((number + 1))
    if [[ $source == *.sources ]]; then
      awk -v RS= -v ORS='\n\n' -v suites="$suites" '
        tolower($0) ~ /(^|\n)enabled:[ \t]*(no|false|0)/ { next }
        $0 !~ "(^|\n)Suites:[^\n]*[ \t]" suites "([ \t\n]|$)" { next }
        $0 !~ /(^|\n)Components:[^\n]*[ \t]main([ \t\n]|$)/ { next }
        { gsub(/(^|\n)Types:[^\n]*/, "\nTypes: deb-src"); sub(/^\n/, ""); print }
      ' "$source" >"$work/parts/$number.sources"
    else
      { grep -E "^[[:space:]]*deb[[:space:]].*[[:space:]]${suites}[[:space:]](.*[[:space:]])?main([[:space:]]|\$)" \
        "$source" || true; } | sed -E 's/^[[:space:]]*deb[[:space:]]/deb-src /' \
        >"$work/parts/$number.list"
    fi
  done
  if [[ -n $codename && $codename != "$LIBVPX_SUITE" ]]; then
    say "this machine runs $codename, not $LIBVPX_SUITE: trying its mirrors all the same"
    sed -i -E "/^(deb-src|Suites:)/s/\b$codename\b/$LIBVPX_SUITE/g" "$work"/parts/*
  fi
  grep -qs deb-src "$work"/parts/* \
    || die "no Debian package source found under /etc/apt/sources.list*; $hint"

  apt_options=(
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts"
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work"
    -o Dir::Cache::archives="$work/archives"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o Acquire::Languages=none -o Acquire::Retries=3
    -o APT::Get::List-Cleanup=false
  )
  # As root apt drops to its own user, who may not enter this folder.
  [[ $(id -u) -ne 0 ]] || apt_options+=(-o APT::Sandbox::User=root)

  say "fetching Debian's source package $LIBVPX_VERSION ($LIBVPX_SUITE)"
  apt-get "${apt_options[@]}" -qq update >"$work/log" 2>&1 \
    || die "apt-get update failed: $(grep -m1 '^E:' "$work/log" || tail -n 1 "$work/log"); $hint"
  version=$(apt-cache "${apt_options[@]}" showsrc --only-source libvpx 2>>"$work/log" \
    | sed -n "s/^Version: \(\(.*:\)\?${LIBVPX_VERSION//./\\.}-.*\)/\1/p" | sort -V | tail -n 1)
  [[ -n $version ]] \
    || die "this machine's Debian mirrors have no libvpx $LIBVPX_VERSION; $hint"
  (cd "$work/got" && apt-get "${apt_options[@]}" -qq source --only-source --download-only \
    "libvpx=$version" >>"$work/log" 2>&1) \
    || die "apt-get source failed: $(grep -m1 '^E:' "$work/log" || tail -n 1 "$work/log"); $hint"
  [[ -f $work/got/$orig_name ]] || die "Debian's $version came without $orig_name; $hint"
  check_orig "$work/got/$orig_name"
  (cd "$work/got" && sha256sum -- *.tar.* *.dsc >"$work/SHA256SUMS")
  mv -f "$work"/got/* "$cache/"
  mv -f "$work/SHA256SUMS" "$cache/SHA256SUMS"
fi
report "$cache/$orig_name" "$(newest_packaging "$cache")"
