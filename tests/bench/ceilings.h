// SPDX-License-Identifier: Apache-2.0
// What this machine can do, on the threads that parallel_for uses: the denominators of the benchmarks. Each call
// measures once (10-30 ms), so that they can be interleaved with what is measured against them.
#pragma once

#include <vector>

namespace farsight {

class Ceilings {
 public:
  Ceilings();  // allocates 3 x 64 MiB
  // a = b + s * c over arrays far larger than the cache, 12 bytes per element.
  double triad_bytes_per_second() const;
  // Independent fp32 fused multiply-add chains in registers, two operations each.
  double fma_flops_per_second() const;

 private:
  mutable std::vector<float> a_;
  std::vector<float> b_, c_;
};

}  // namespace farsight
