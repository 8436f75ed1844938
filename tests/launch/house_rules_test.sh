#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Our tree breaks no rule of house_rules.sh, and each rule notices a planted violation and nothing else does.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0
spdx='// SPDX-License-Identifier: Apache-2.0'

clean_tree() {
  rm -rf "${tree:?}"/*
  mkdir "$tree"/{kernels,parallel,data,trainer,tests}
  printf '%s\n' "$spdx" '#include "kernels/error.h"' | tee "$tree"/{kernels,parallel,data,trainer,tests}/room.cc >"$tree/kernels/error.h"
  printf '%s\n' "${spdx/\/\//#}" >"$tree/CMakeLists.txt"
}

# plant FILE LINE RULE: the checker must name the file and the rule, and find one violation in all.
plant() {
  clean_tree
  mkdir -p "$(dirname "$tree/$1")"
  [[ -e $tree/$1 ]] || printf '%s\n' "$spdx" >"$tree/$1"
  printf '%b\n' "$2" >>"$tree/$1"
  local output
  output=$("$here/house_rules.sh" "$tree")
  if [[ $? -ne 1 || $output != *"$1:"*": $3"* || $output != *' 1 violations' ]]; then
    printf 'FAILED: planted "%s" in %s, expected "%s", found:\n%s\n' "$2" "$1" "$3" "$output"
    failures=$((failures + 1))
  fi
}

clean_tree
if ! "$here/house_rules.sh" "$tree"; then echo "FAILED: a clean tree is refused" && failures=1; fi

plant kernels/a.cc '#include "parallel/comm.h"' 'kernels includes'
plant kernels/a.h '  #  include "trainer/model.h"' 'kernels includes'
plant parallel/a.cc '#include "trainer/model.h"' 'parallel includes'
plant parallel/a.cc '#include "data/corpus.h"' 'parallel includes'
plant data/a.cc '#include "kernels/tape.h"' 'data includes'
plant data/a.cc '#include "parallel/mesh.h"' 'data includes'
plant data/a.h '#include "kernels/attention/block.h"' 'data includes'
plant trainer/a.cc '#include "tests/kernels/oracle.h"' 'trainer includes'
plant tests/a.cc '#include "room.h"' 'includes are paths'
plant trainer/a.cc '#include <mpi.h>' 'mpi.h'
plant kernels/a.cc '#include <mpi.h>' 'mpi.h'
plant trainer/a.cc '#pragma omp parallel for' 'OpenMP'
plant kernels/a.cc '#include <omp.h>' 'OpenMP'
plant kernels/softmax_cpu.cc '#include <cuda_runtime.h>' 'CUDA headers'
plant parallel/a.cc '#include <nccl.h>' 'CUDA headers'
plant kernels/a.cc '#include <fstream>' 'kernels reads'
plant trainer/string_utils.cc '// -' 'a file is named'
plant trainer/utils.h '// -' 'a file is named'
plant data/common.cc '// -' 'a file is named'
plant data/helpers.cc '// -' 'a file is named'
plant trainer/a.cc 'int x;  // TO''DO later' 'unfinished'
plant data/a.cc 'void f() { std::exit(1); }' 'throw Error'
plant kernels/a.cc 'void f() { printf("x"); }' 'libraries print'
plant kernels/CMakeLists.txt '# SPDX-License-Identifier: Apache-2.0\nadd_compile_options(-march=native)' 'explicit lists'
plant CMakeLists.txt 'file(GLOB sources *.cc)' 'explicit lists'
plant trainer/a.cc '// na\xc3\xafve' 'sources are ASCII'
plant data/a.h 'struct Candidate {\n};\nstruct Other {};\nstruct Candidate final : Other {' 'a type has one definition'
plant trainer/a.h 'class Report {\n};\nstruct Later;\nstruct Later {};\nenum class Report : int {' 'a type has one definition'

expect_spdx() { # FILE FIRST-LINE
  clean_tree
  printf '%s\n' "$2" >"$tree/$1"
  chmod +x "$tree/$1"
  if "$here/house_rules.sh" "$tree" >/dev/null; then echo "FAILED: $1 without SPDX line passes" && failures=$((failures + 1)); fi
}
expect_spdx kernels/a.cc '// A file without a licence line.'
expect_spdx tests/a.sh '#!/bin/bash'
expect_spdx CMakeLists.txt 'project(x)'

# Files that may do what the others may not.
clean_tree
printf '%s\n' "$spdx" '#include <mpi.h>' >"$tree/parallel/mpi_comm.cc"
printf '%s\n' "$spdx" '#include <omp.h>' '#pragma omp parallel' >"$tree/kernels/parallel_for.cc"
printf '%s\n' "$spdx" '#include <cuda_runtime.h>' >"$tree/kernels/softmax_cuda.cu"
printf '%s\n' "$spdx" '#include "trainer/model.h"' >"$tree/tests/model_test.cc"
if ! "$here/house_rules.sh" "$tree"; then echo "FAILED: an allowed door is refused" && failures=$((failures + 1)); fi

((failures == 0)) && echo "every planted violation was found"
exit $((failures > 0))
