// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer_range.h"

#include <algorithm>

#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {

void check_optimizer_ranges(const char* op, std::span<const OptimizerRange> ranges, size_t elements) {
  for (const auto& range : ranges) {
    if (range.begin < 0 || range.count < 0 || range.begin + range.count > static_cast<int64_t>(elements)) {
      fail(ErrorKind::internal, "{}: range [{}, {}) does not lie within {} elements", op, range.begin,
           range.begin + range.count, elements);
    }
  }
}

std::vector<OptimizerRange> optimizer_pieces(std::span<const OptimizerRange> ranges) {
  constexpr int64_t kPiece = 65536;
  std::vector<OptimizerRange> pieces;
  for (const auto& range : ranges) {
    for (int64_t done = 0; done < range.count; done += kPiece) {
      pieces.push_back({range.begin + done, std::min(kPiece, range.count - done), range.rate, range.decay});
    }
  }
  return pieces;
}

CudaOptimizerPlan::CudaOptimizerPlan(const char* op, std::span<const OptimizerRange> ranges) {
  std::vector<CudaOptimizerRange> rows;
  for (const auto& range : ranges) {
    if (range.count == 0) continue;
    const auto same = [&](const OptimizerRange& g) { return g.rate == range.rate && g.decay == range.decay; };
    const auto found = std::find_if(groups.begin(), groups.end(), same);
    const int64_t group = found - groups.begin();
    if (found == groups.end()) groups.push_back(range);
    rows.push_back({range.begin, range.count, slabs.chunks, group});
    slabs.chunks += (range.count + kCudaChunk - 1) / kCudaChunk;
  }
  if (groups.size() > kCudaOptimizerGroups) {
    fail(ErrorKind::internal, "{}: {} groups of ranges, the device takes {}", op, groups.size(), kCudaOptimizerGroups);
  }
  slabs.ranges = static_cast<int64_t>(rows.size());
  static_assert(sizeof(CudaOptimizerRange) % sizeof(int64_t) == 0);
  table = device_copy(std::span(reinterpret_cast<const int64_t*>(rows.data()),
                                rows.size() * sizeof(CudaOptimizerRange) / sizeof(int64_t)));
  slabs.range = static_cast<const CudaOptimizerRange*>(table.raw());
}

void bind_slabs(const char* op, CudaOptimizerSlabs& slabs, const Tensor& values, const Tensor& gradients,
                const Tensor& first, const Tensor& second, const Tensor& rounded, const Tensor& gate) {
  for (const Tensor* t : {&values, &gradients, &first, &second, &rounded}) {
    if (!t->defined()) continue;
    const DType type = t == &rounded ? DType::bf16 : DType::f32;
    if (t->numel() != values.numel() || t->device() != Device::cuda || t->dtype() != type || !t->contiguous()) {
      fail(ErrorKind::internal, "{}: values {}, and a {} tensor {} on {}", op, to_string(values.shape()),
           to_string(t->dtype()), to_string(t->shape()), to_string(t->device()));
    }
  }
  slabs.values = static_cast<float*>(values.raw());
  slabs.gradients = static_cast<const float*>(gradients.raw());
  slabs.first = static_cast<float*>(first.raw());
  slabs.second = static_cast<float*>(second.raw());
  slabs.rounded = static_cast<uint16_t*>(rounded.raw());
  slabs.gate = static_cast<const float*>(gate.raw());
}

}  // namespace farsight
