// SPDX-License-Identifier: Apache-2.0
// Totals of a step on the device (see totals.h).
#pragma once

#include <cstdint>

namespace farsight {

// Blocks of a sum: each adds up its share, then they are added up in order.
inline constexpr int64_t kCudaSumBlocks = 1024;
inline int64_t cuda_sum_blocks(int64_t count) {
  const int64_t blocks = (count + 4095) / 4096;
  return blocks < 1 ? 1 : blocks < kCudaSumBlocks ? blocks : kCudaSumBlocks;
}
// total += weight * sum of the values or of their squares.
struct CudaSum {
  int64_t count;
  const float* values;
  bool squares;
  int64_t blocks;   // cuda_sum_blocks(count)
  double* partial;  // [blocks]
  double weight;
  double* total;   // [1]
  float* rounded;  // null, or gets the new total in fp32
};

struct CudaAddTotal {
  const double* other;  // [1]
  double* total;        // [1]
};

struct CudaUpdateGate {
  int64_t count;
  const double* totals;  // [count]
  double max_norm;
  float* gate;  // [1]
};

}  // namespace farsight
