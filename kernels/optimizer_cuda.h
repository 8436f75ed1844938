// SPDX-License-Identifier: Apache-2.0
// Optimizers on flat slabs of the device (see adamw.h, sgd.h).
#pragma once

#include <cstdint>

#include "kernels/adamw_cpu.h"
#include "kernels/sgd_cpu.h"

namespace farsight {

// A range is cut into chunks of this many elements, one block each.
inline constexpr int64_t kCudaChunk = 4096;
inline constexpr int kCudaOptimizerGroups = 8;

// A stretch of the slab whose elements have the factors of one group.
struct CudaOptimizerRange {
  int64_t begin, count;
  int64_t first_chunk;  // chunks of all ranges before it
  int64_t group;
};

// One pass over all ranges. `rounded` (may be null) gets the new values in bf16. *gate, where there is one, takes the
// place of the gradient scale of every group.
struct CudaOptimizerSlabs {
  int64_t ranges, chunks;
  const CudaOptimizerRange* range;  // [ranges], ascending first_chunk
  float* values;
  const float* gradients;
  float *first, *second;  // m and v; the momentum and null
  uint16_t* rounded;
  const float* gate;
};
struct CudaAdamW {
  CudaOptimizerSlabs slabs;
  AdamWFactors groups[kCudaOptimizerGroups];
};
struct CudaSgd {
  CudaOptimizerSlabs slabs;
  SgdFactors groups[kCudaOptimizerGroups];
};

}  // namespace farsight
