// SPDX-License-Identifier: Apache-2.0
// Finds and opens libfarsight_cuda.so, once per process. Without it, without a driver or without a device the program
// runs on the CPU; `reason` says why.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/cuda/backend.h"

namespace farsight {

struct CudaLibrary {
  const CudaBackend* table = nullptr;  // null: cannot be used
  int32_t devices = 0;                 // 0 iff table is null
  std::string path;                    // of the plugin, when one was found
  std::string reason;                  // why it cannot be used; what is missing and what to do
};

// Looks at FARSIGHT_CUDA_PLUGIN (a file; nothing else then), beside the program, and in ../lib of it. Thread safe.
const CudaLibrary& cuda_library();

// The same without remembering, for tests: the plugin at `path`, or, empty, where cuda_library() looks.
CudaLibrary open_cuda_library(const std::string& path);

}  // namespace farsight
