// SPDX-License-Identifier: Apache-2.0
// Where packed documents begin in each matrix of a call, and how long they are, in the form that cuDNN wants.
#pragma once

#include <cstdint>

#include "kernels/cuda/backend.h"

namespace farsight::cuda {

// One matrix: document n begins at element starts[n] / block_tokens * block + starts[n] % block_tokens * stride.
struct SdpaOffsets {
  const int32_t* starts;  // [documents + 1]
  int64_t stride, block_tokens, block;
  int64_t* offsets;  // [documents + 1]
};

inline constexpr int kMostSdpaOffsets = 12;
struct SdpaDocuments {
  int64_t documents;
  const int32_t *q_starts, *k_starts;  // [documents + 1]
  int32_t *q_lengths, *k_lengths;      // [documents]
  int32_t count;                       // of matrices
  SdpaOffsets matrices[kMostSdpaOffsets];
};

int sdpa_documents(const SdpaDocuments& arguments, CudaStream stream);

}  // namespace farsight::cuda
