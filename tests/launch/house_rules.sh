#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads the sources of a tree and prints every line that breaks a rule of CONTRIBUTING.md that a text search can see:
#   tests/launch/house_rules.sh [ROOT]        exit 1 if there is one; "path:line: rule: text" each
# house_rules_test.sh plants one violation of each kind and expects it to be found.
set -uo pipefail
export LC_ALL=C

cd "${1:-$(dirname "$0")/../..}" || exit 64
folders=()
for folder in kernels parallel data trainer launch tests .ci; do [[ -d $folder ]] && folders+=("$folder"); done
mapfile -t code < <(find "${folders[@]}" -type f \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) | sort)
mapfile -t build < <(find "${folders[@]}" -type f \( -name CMakeLists.txt -o -name '*.cmake' -o -name '*.cmake.in' \) | sort)
[[ -f CMakeLists.txt ]] && build+=(CMakeLists.txt)
mapfile -t scripts < <(find "${folders[@]}" -type f \( -name '*.sh' -o -perm -100 \) | sort)
if ((${#code[@]} == 0)); then echo "house_rules: no sources below $PWD" >&2 && exit 64; fi

report() { sed "s|\$|: $1|"; } # RULE, appended to each "path:line:text" of standard input
# grep_in FILES-REGEX EXCEPT-REGEX PATTERN: lines of the code files whose path matches FILES and not EXCEPT
grep_in() { printf '%s\n' "${code[@]}" | grep -E "$1" | grep -vE "${2:-^$}" | xargs -r grep -HnE -- "$3"; }

# Who may include whom. A quoted include is a path from the root of the tree.
check_includes() {
  ours='^[[:space:]]*#[[:space:]]*include[[:space:]]+"'
  grep_in '^kernels/' '' "$ours" | grep -vE '"kernels/' | report 'kernels includes kernels only'
  grep_in '^parallel/' '' "$ours" | grep -vE '"(kernels|parallel)/' | report 'parallel includes kernels and parallel only'
  grep_in '^data/' '' "$ours" | grep -vE '"(data/|kernels/(error|tensor|allocator|random)\.h")' |
    report 'data includes data and kernels/{error,tensor,allocator,random} only'
  grep_in '^trainer/' '' "$ours" | grep -vE '"(kernels|parallel|data|trainer)/' | report 'trainer includes kernels, parallel, data, trainer'
  grep_in '' '' "$ours" | grep -vE '"(kernels|parallel|data|trainer|tests)/' | report 'includes are paths from the project root'
}

# Each library has one door.
check_doors() {
  include='^[[:space:]]*#[[:space:]]*include[[:space:]]+[<"]'
  grep_in '' '^(parallel/mpi_|tests/(parallel|bench)/)' "${include}mpi\.h" | report 'mpi.h belongs to parallel/mpi_*'
  grep_in '' '^kernels/parallel_for' "(^[[:space:]]*#[[:space:]]*pragma[[:space:]]+omp|${include}omp\.h)" |
    report 'OpenMP stands behind kernels/parallel_for'
  grep_in '' '_cuda(_[a-z]+)?\.(h|cc|cu|cuh)$' "${include}(cuda|cudnn|cublas|nccl|cub/|thrust/)" | report 'CUDA headers belong to *_cuda files'
  grep_in '^kernels/' '' "${include}(fstream|filesystem)" | report 'kernels reads and writes no files'
}

# Habits.
check_habits() {
  printf '%s\n' "${code[@]}" | grep -E '[/_](utils?|commons?|misc|helpers?)(_[a-z]+)*\.[a-z]+$' | sed 's/$/:1:/' | report 'a file is named for its concept'
  grep_in '' '' '\b(TODO|FIXME|XXX)\b' | report 'unfinished work is not committed'
  grep_in '^(kernels|parallel|data|trainer)/' '' 'std::(exit|abort|quick_exit)\(' | report 'throw Error; only main ends the process'
  grep_in '^(kernels|parallel|data)/' '' '(std::(cout|cerr|clog)|fmt::print\(|\bprintf\()' | report 'libraries print nothing'
  printf '%s\n' "${build[@]}" | xargs -r grep -HnE -- '-march=native|file\(GLOB|-ffast-math|-Ofast' | report 'explicit lists, IEEE arithmetic, no -march=native'
  printf '%s\n' "${code[@]}" "${build[@]}" "${scripts[@]}" | sort -u | xargs -r grep -HnP '[^\x00-\x7F]' | report 'sources are ASCII'
  awk 'FNR <= 2 && /^(\/\/|#) SPDX-License-Identifier: Apache-2\.0$/ { marked[FILENAME] = 1 } FNR == 2 { nextfile }
       END { for (i = 1; i < ARGC; ++i) if (!marked[ARGV[i]]) print ARGV[i] ":1:" }' "${code[@]}" "${build[@]}" "${scripts[@]}" |
    report 'the first line (after #!) is the SPDX line'
}

# Headers share one namespace. Two types of one name in it are undefined behaviour that no compiler sees when no file
# includes both headers: the linker keeps one destructor for the two.
check_names() {
  grep_in '\.h$' '' '^(template <.*> )?(struct|class|union|enum( class| struct)?) [A-Za-z_0-9]+[^;]*(\{|$)' |
    grep -vE '(struct|class) [A-Za-z_0-9]+<' |  # a specialisation is no second type
    sed -E 's/alignas\(.*\) //; s/^([^:]*:[0-9]+):.*(struct|class|union|enum) ([A-Za-z_0-9]+).*/\1:\3/' |
    awk -F: 'seen[$3]++' | report 'a type has one definition'
}

violations=$(check_includes; check_doors; check_habits; check_names)
count=$(grep -c . <<<"$violations")
if ((count)); then echo "$violations"; fi
echo "house rules: ${#code[@]} source, ${#build[@]} build, ${#scripts[@]} script files, $count violations"
((count == 0))
