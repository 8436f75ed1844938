// SPDX-License-Identifier: Apache-2.0
// How the plugin reports failures: a status for the caller, a text for message().
#pragma once

#include <cuda_runtime.h>

namespace farsight::cuda {

// Keeps the text for message() and returns the status.
int failed(int status, const char* what, const char* why);
const char* last_message();

inline int report(const char* what, cudaError_t error) {
  return error == cudaSuccess ? 0 : failed(static_cast<int>(error), what, cudaGetErrorString(error));
}

}  // namespace farsight::cuda
