// SPDX-License-Identifier: Apache-2.0
// Where activations wait between forward and backward when the device has no room for them. A device parks them in
// pinned host memory, copied by a stream of its own beside the arithmetic; on the CPU they are there already, so that
// parking moves nothing and only counts: plans and reports mean the same on both.
// Source: Rasley et al. 2025 (arXiv:2506.13996), activation checkpoint offload.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"

namespace farsight {

struct OffloadStats {
  int64_t parked_bytes = 0;  // now
  int64_t peak_bytes = 0;    // most at one time
  int64_t moved_bytes = 0;   // between device and host, both ways; 0 on the CPU
  int64_t parks = 0, fetches = 0;
};

// A value that waits; empty after it was fetched.
struct ParkedValue {
  Tensor value;                  // on the CPU, and on a device while it is there
  std::shared_ptr<void> pinned;  // its copy in host memory
};
using ParkedTensor = std::shared_ptr<ParkedValue>;

// One thread uses it, in the order of a tape: what was parked last is fetched first.
class ActivationOffload {
 public:
  virtual ~ActivationOffload() = default;
  // Takes over the value; the caller drops its own handle and nobody writes to it any more.
  virtual ParkedTensor park(const Tensor& value) = 0;
  // The value where operations can read it. Error{internal} for one that was fetched before.
  virtual Tensor fetch(const ParkedTensor& parked) = 0;
  virtual OffloadStats stats() const = 0;
};

// For the device of this thread. On a device the copies of the last kOffloadAhead values may be under way: so many are
// in device memory beside those that operations use.
inline constexpr int64_t kOffloadAhead = 4;
std::unique_ptr<ActivationOffload> make_offload();

}  // namespace farsight
