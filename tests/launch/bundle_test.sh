#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What launch/bundle packs runs from where it is unpacked, with its own libraries and its own mpirun.
#   bundle_test.sh BUILD
set -eu
build=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v patchelf >/dev/null || { echo "SKIP: patchelf is not installed" && exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-bundle-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
"$root/launch/bundle" out.tgz "$build"
tar xzf out.tgz
for library in libmpi libhdf5 libdnnl libboost; do
  ldd bundle/build/farsight bundle/build/tests/emulation/*.so | grep "$library" | grep -v "$work/bundle/" &&
    echo "FAILED: $library is not the bundle's" && exit 1
done
mkdir tree && mv bundle tree/ && cd tree
# shellcheck source=/dev/null
(. bundle/env.sh && mpirun -np 2 --oversubscribe "$work/tree/bundle/build/farsight" doctor) >../doctor.log 2>&1 ||
  { cat ../doctor.log && exit 1; }
grep -q '^2 ranks' ../doctor.log || { cat ../doctor.log && exit 1; }
[[ -e build/$(basename "$build")/CTestTestfile.cmake ]]
echo "a bundle runs elsewhere"
