#!/usr/bin/env bash
# Builds the patched static libvpx into third_party/libvpx/build/<key> and points
# build/current at it. The key is a hash of this recipe, the patches and the source, so
# that nothing is built twice and a second run takes no time and no network.
#
#   LIBVPX_TARBALL, LIBVPX_CACHE   see fetch.sh
#   LIBVPX_SANITIZE=address        a debug build with asserts; the link is then
#                                  build/current-address (CMake: MUZERO_RC_SANITIZE)
#   LIBVPX_BIT_DEPTH=8             without high bit depth, as build/current-8bit, to measure what
#                                  that costs (benchmarks/bench_bit_depth.py)
#   JOBS=N                         parallel compilers (default: all cores)
set -euo pipefail
shopt -s nullglob
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=version.env
source "$here/version.env"
sanitize=${LIBVPX_SANITIZE:-}
depth=${LIBVPX_BIT_DEPTH:-12}
plain=
[[ $depth != 8 ]] || plain=8bit
link=$here/build/current${sanitize:+-$sanitize}${plain:+-$plain}
patches=("$here"/patches/*.patch)

say() { echo "libvpx: $*" >&2; }
die() {
  say "$*"
  exit 1
}
hash_of() { sha256sum | cut -c1-16; }

machine=$(uname -m)
flags=(
  --disable-shared --enable-static --enable-pic
  --disable-vp8 --enable-vp9-encoder --enable-vp9-decoder
  --disable-examples --disable-tools --disable-docs --disable-unit-tests
  --disable-install-bins --disable-install-srcs --disable-dependency-tracking
  --enable-multithread --size-limit=16384x16384
)
case $machine in
  x86_64) flags+=(--target=x86_64-linux-gcc --as=nasm) ;;
  aarch64) flags+=(--target=arm64-linux-gcc) ;;
esac
[[ -n $plain ]] || flags+=(--enable-vp9-highbitdepth)
if [[ -n $sanitize ]]; then
  flags+=(--enable-debug)
  export CFLAGS="-fsanitize=$sanitize -fno-omit-frame-pointer" LDFLAGS="-fsanitize=$sanitize"
fi

# What the recipe itself is, file names included; the source is added below.
patches_hash=$(cd "$here" && for patch in "${patches[@]}"; do
  sha256sum "patches/${patch##*/}"
done | hash_of)
recipe=$( (cat "$here/version.env" "${BASH_SOURCE[0]}" && echo "$machine $patches_hash $sanitize$plain") | hash_of)

if [[ -z ${LIBVPX_TARBALL:-} && -f $link/lib/libvpx.a ]] \
  && [[ $(cat "$link/RECIPE" 2>/dev/null) == "$recipe" ]]; then
  exit 0
fi

source_info=$("$here/fetch.sh")
{ read -r version && read -r orig && read -r packaging; } <<<"$source_info" || true
key=$( (echo "$recipe" && cat "$orig" ${packaging:+"$packaging"} | sha256sum) | hash_of)
prefix=$here/build/$key

mkdir -p "$here/build"
exec 9>"$here/build/.lock"
flock 9
if [[ ! -f $prefix/lib/libvpx.a ]]; then
  for tool in gcc make patch xz tar; do
    command -v "$tool" >/dev/null || die "$tool is missing; run make setup"
  done
  [[ $machine != x86_64 ]] || command -v nasm >/dev/null || die "nasm is missing; run make setup"
  work=$(mktemp -d "$here/build/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/src" "$work/obj" "$work/install"
  tar -xzf "$orig" -C "$work/src" --strip-components=1

  # -F0: a patch that no longer fits exactly is an error, never a guess.
  apply() {
    patch -d "$work/src" -p1 -F0 -s --no-backup-if-mismatch -i "$1" >"$work/patch.log" 2>&1 \
      || die "patch $2 does not apply to $version: $(head -n 3 "$work/patch.log" | tr '\n' ' ')"
  }
  if [[ -n $packaging ]]; then
    mkdir "$work/packaging"
    tar -xJf "$packaging" -C "$work/packaging"
    while read -r name; do
      apply "$work/packaging/debian/patches/$name" "debian/$name"
    done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$work/packaging/debian/patches/series")
  fi
  for patch in "${patches[@]}"; do
    apply "$patch" "${patch##*/}"
  done

  say "building $version, ${#patches[@]} patches of ours"
  if ! (
    cd "$work/obj" \
      && "$work/src/configure" --prefix="$work/install" "${flags[@]}" \
      && make -j"${JOBS:-$(nproc)}" V= \
      && make install
  ) >"$work/build.log" 2>&1; then
    cp "$work/build.log" "$here/build/failed.log"
    grep -m 5 -E 'error:|Error ' "$work/build.log" >&2 || tail -n 5 "$work/build.log" >&2
    die "the build failed; its log is third_party/libvpx/build/failed.log"
  fi
  # Headers that upstream installs only on request, and those of our patches.
  cp "$work"/src/vpx/*.h "$work/install/include/vpx/"
  echo "libvpx $version patches:$patches_hash${sanitize:+ sanitize:$sanitize}" >"$work/install/BUILD_ID"
  echo "$recipe" >"$work/install/RECIPE"
  cp "$work/src/LICENSE" "$work/src/PATENTS" "$work/install/"
  rm -rf "$prefix"
  mv "$work/install" "$prefix"
  rm -f "$here/build/failed.log"
fi
# A new name moved over the old one: the link is never missing.
ln -sfn "$key" "$link.new"
mv -fT "$link.new" "$link"
say "ready: $(cat "$link/BUILD_ID")"
