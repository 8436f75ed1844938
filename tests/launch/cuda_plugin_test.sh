#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CUDA plugin as a file: what it needs, what it shows, where its libraries are looked for.
#   cuda_plugin_test.sh PLUGIN
set -u
plugin=$1
failures=0
check() { # description, command...
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failures=$((failures + 1)); fi
}
dynamic=$(readelf -d "$plugin")
needed=$(sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' <<<"$dynamic")
allowed='^(libcublasLt\.so\.[0-9]+|libcudnn\.so\.9|libnccl\.so\.2|libstdc\+\+\.so\.6|libgcc_s\.so\.1|libc\.so\.6|libm\.so\.6|ld-linux-x86-64\.so\.2)$'
echo "needs: $(tr '\n' ' ' <<<"$needed")"
check "needs cuBLASLt" grep -q '^libcublasLt' <<<"$needed"
check "needs cuDNN, by its front library alone" grep -qx 'libcudnn\.so\.9' <<<"$needed"
check "needs NCCL" grep -qx 'libnccl\.so\.2' <<<"$needed"
check "needs nothing that a machine without a driver lacks" test -z "$(grep -vE "$allowed" <<<"$needed")"
check "LD_LIBRARY_PATH comes before its own folders (RUNPATH)" grep -q '(RUNPATH)' <<<"$dynamic"
check "shows one symbol" test "$(nm -D --defined-only "$plugin" | awk '{ print $3 }')" = farsight_cuda_backend
[ $failures -eq 0 ] || exit 1
echo "all checks passed"
