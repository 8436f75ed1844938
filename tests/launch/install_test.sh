#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An installed Farsight works from its prefix: the program runs, and a separate project finds the package, includes a
# header, links farsight::farsight_kernels and computes.     install_test.sh BUILD_DIRECTORY
set -euo pipefail

build=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/install.log"
version=$("$scratch/prefix/bin/farsight" --version)
[[ $version == farsight* ]] || { echo "FAILED: the installed program says '$version'" && exit 1; }

mkdir "$scratch/consumer"
cat >"$scratch/consumer/CMakeLists.txt" <<'PROJECT'
cmake_minimum_required(VERSION 3.25)
project(consumer CXX)
find_package(farsight 0.1 REQUIRED)
add_executable(consumer consumer.cc)
target_link_libraries(consumer PRIVATE farsight::farsight_kernels)
PROJECT
cat >"$scratch/consumer/consumer.cc" <<'SOURCE'
#include <cstdio>

#include "kernels/tensor.h"

int main() {
  const farsight::Tensor ones = farsight::Tensor::zeros({2, 3});
  for (float& x : ones.span<float>()) x = 7;
  std::printf("%g %d\n", static_cast<double>(ones.narrow(1, 1).data<float>()[2]), static_cast<int>(ones.numel()));
}
SOURCE
cmake -G Ninja -S "$scratch/consumer" -B "$scratch/consumer/build" -DCMAKE_PREFIX_PATH="$scratch/prefix" >"$scratch/configure.log" ||
  { cat "$scratch/configure.log" && exit 1; }
cmake --build "$scratch/consumer/build"
output=$("$scratch/consumer/build/consumer")
[[ $output == "7 6" ]] || { echo "FAILED: the consumer printed '$output', expected '7 6'" && exit 1; }

# Nothing of the source or build tree may be left in the exported package. A tree at /farsight is not meant by
# ".../include/farsight".
names_tree() { grep -rnP "(?:(?<![\\w.}/-])|(?<=-[IL]))\\Q$1\\E(?![\\w.-])" "$scratch/prefix/lib" --include='*.cmake'; }
if names_tree "$build" || names_tree "$PWD"; then
  echo "FAILED: the exported package names the tree it was built in" && exit 1
fi
echo "installed, found, linked and run"
