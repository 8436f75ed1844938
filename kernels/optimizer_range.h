// SPDX-License-Identifier: Apache-2.0
// A stretch of a flat slab that an optimizer treats alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/optimizer_cuda.h"
#include "kernels/tensor.h"

namespace farsight {

struct OptimizerRange {
  int64_t begin = 0;
  int64_t count = 0;
  float rate = 1.0F;  // multiplies the learning rate
  bool decay = false;
};

// Throws Error{internal}, naming op, unless every range lies within [0, elements).
void check_optimizer_ranges(const char* op, std::span<const OptimizerRange> ranges, size_t elements);

// The ranges cut into pieces of at most 64 Ki elements, in order: units of work for threads.
std::vector<OptimizerRange> optimizer_pieces(std::span<const OptimizerRange> ranges);

// The ranges as a device wants them, and what must stay alive until the operation has been started. Ranges with the
// same rate and decay are one group; `groups` lists one of each. Error{internal} for more groups than a device takes.
struct CudaOptimizerPlan {
  CudaOptimizerPlan(const char* op, std::span<const OptimizerRange> ranges);
  std::vector<OptimizerRange> groups;
  Tensor table;
  CudaOptimizerSlabs slabs{};  // without values, gradients and state
};
// Puts the tensors into plan.slabs after checking that all have one size and lie on the device.
void bind_slabs(const char* op, CudaOptimizerSlabs& slabs, const Tensor& values, const Tensor& gradients,
                const Tensor& first, const Tensor& second, const Tensor& rounded, const Tensor& gate);

}  // namespace farsight
