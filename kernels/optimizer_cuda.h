// SPDX-License-Identifier: Apache-2.0
// Optimizers and norms on flat slabs of the device (see adamw.h, sgd.h, gradient_norm.h).
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

// One pass over all ranges. `rounded` (may be null) gets the new values in bf16.
struct CudaOptimizerSlabs {
  int64_t ranges, chunks;
  const CudaOptimizerRange* range;  // [ranges], ascending first_chunk
  float* values;
  const float* gradients;
  float *first, *second;  // m and v; the momentum and null
  uint16_t* rounded;
};
struct CudaAdamW {
  CudaOptimizerSlabs slabs;
  AdamWFactors groups[kCudaOptimizerGroups];
};
struct CudaSgd {
  CudaOptimizerSlabs slabs;
  SgdFactors groups[kCudaOptimizerGroups];
};

// A reduction in fp64, blocks first, then the blocks in order. magnitude: the largest, NaN if there is one.
enum class CudaReduction : int32_t { sum, squares, magnitude };
inline constexpr int64_t kCudaNormBlocks = 1024;
inline int64_t cuda_norm_blocks(int64_t count) {
  const int64_t blocks = (count + 4095) / 4096;
  return blocks < 1 ? 1 : blocks < kCudaNormBlocks ? blocks : kCudaNormBlocks;
}
struct CudaSlabNorm {
  int64_t count;
  const float* values;
  CudaReduction reduction;
  int64_t blocks;   // cuda_norm_blocks(count)
  double* partial;  // [blocks]
  double* result;   // [1] = weight * reduction (+ what is there)
  double weight;
  bool add;
  float* rounded;  // null, or gets the new result in fp32
};

}  // namespace farsight
