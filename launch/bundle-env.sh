# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sets up a shell for the unpacked archive of launch/bundle, wherever it lies:   . /path/to/farsight-bundle/env.sh
# bash and zsh know where a sourced file lies; for another shell set FARSIGHT_BUNDLE to the folder first.
#   FARSIGHT_PYTHON   the python whose nvidia packages hold the CUDA libraries (default: python3 in PATH)
#   CUDA_HOME         the CUDA toolkit (default: /usr/local/cuda)
# PATH, LD_LIBRARY_PATH and the variables of Open MPI change; sourced again it changes nothing.
# shellcheck disable=SC2296 # the last is zsh's
if [ -n "${BASH_SOURCE:-}" ]; then
  FARSIGHT_BUNDLE=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
elif [ -n "${ZSH_VERSION:-}" ]; then
  FARSIGHT_BUNDLE=$(cd -P "$(dirname "${(%):-%x}")" && pwd)
fi
export FARSIGHT_BUNDLE="${FARSIGHT_BUNDLE:-}"

# Name of a variable, folder: put first in the path of that name, once.
farsight_prepend() {
  farsight_value=''
  eval "farsight_value=\${$1:-}"
  case ":$farsight_value:" in
    *":$2:"*) ;;
    *) eval "export $1=\"\$2\${farsight_value:+:\$farsight_value}\"" ;;
  esac
  unset farsight_value
}

# The loader itself says which libraries of the plugin it does not find.
farsight_lost() {
  { LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2 "$FARSIGHT_BUNDLE/lib/libfarsight_cuda.so" 2>/dev/null || true; } |
    while read -r farsight_name farsight_arrow farsight_rest; do
      if [ "$farsight_arrow $farsight_rest" = "=> not found" ]; then printf ' %s' "$farsight_name"; fi
    done
}

farsight_find_cuda() {
  farsight_python=${FARSIGHT_PYTHON:-$(command -v python3 || true)}
  if [ -n "$(farsight_lost)" ] && [ -n "$farsight_python" ]; then
    farsight_folders=$("$farsight_python" -c '
import glob, os
try:
    import nvidia
except ImportError:
    raise SystemExit
print(":".join(sorted(folder for place in nvidia.__path__ for folder in glob.glob(os.path.join(place, "*", "lib")))))
') || true
    if [ -n "$farsight_folders" ]; then farsight_prepend LD_LIBRARY_PATH "$farsight_folders"; fi
  fi
  if [ -n "$(farsight_lost)" ] && [ -d "${CUDA_HOME:-/usr/local/cuda}/lib64" ]; then
    farsight_prepend LD_LIBRARY_PATH "${CUDA_HOME:-/usr/local/cuda}/lib64"
  fi
  farsight_missing=$(farsight_lost)
  if [ -n "$farsight_missing" ]; then
    echo "env.sh: farsight will use the CPU: the CUDA libraries are not found:$farsight_missing" >&2
    echo "  Set FARSIGHT_PYTHON to a python that has the packages nvidia-cublas, nvidia-cudnn-cu13 and nvidia-nccl-cu13," >&2
    echo "  or CUDA_HOME to a toolkit, or name their folders in LD_LIBRARY_PATH; then source env.sh again." >&2
  fi
  unset farsight_python farsight_folders farsight_missing
}

if [ -x "$FARSIGHT_BUNDLE/bin/farsight" ]; then
  farsight_prepend PATH "$FARSIGHT_BUNDLE/bin"
  farsight_prepend PATH "$FARSIGHT_BUNDLE/launch" # its mpirun starts the one in bin
  # Open MPI was built for other folders.
  export OPAL_PREFIX="$FARSIGHT_BUNDLE" OPAL_BINDIR="$FARSIGHT_BUNDLE/bin" OPAL_LIBDIR="$FARSIGHT_BUNDLE/lib"
  export OPAL_PKGLIBDIR="$FARSIGHT_BUNDLE/lib/openmpi3" OPAL_DATADIR="$FARSIGHT_BUNDLE/share"
  export OPAL_PKGDATADIR="$FARSIGHT_BUNDLE/share/openmpi" OPAL_SYSCONFDIR="$FARSIGHT_BUNDLE/etc"
  export OMPI_MCA_mca_base_component_path="$FARSIGHT_BUNDLE/lib/openmpi3" PMIX_MCA_mca_base_component_path="$FARSIGHT_BUNDLE/lib/pmix"
  # PMIx crashes where neither this nor the account database names a home.
  export HOME="${HOME:-$FARSIGHT_BUNDLE}"
  # Plugins of another hwloc are not for this one.
  export HWLOC_PLUGINS_PATH="$FARSIGHT_BUNDLE/lib/hwloc"
  # mpirun ends at once where it finds nothing to reach other machines with.
  if ! command -v ssh >/dev/null && ! command -v rsh >/dev/null && ! command -v srun >/dev/null; then export OMPI_MCA_plm=isolated; fi
  if [ -e "$FARSIGHT_BUNDLE/lib/libfarsight_cuda.so" ]; then farsight_find_cuda; fi
else
  echo "env.sh: error: '$FARSIGHT_BUNDLE' is not the unpacked bundle; set FARSIGHT_BUNDLE to its folder, then source env.sh again" >&2
fi
unset -f farsight_prepend farsight_lost farsight_find_cuda
