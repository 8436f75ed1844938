// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ceilings.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ceilings.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

HWY_ATTR void Triad(const float* b, const float* c, float s, int64_t n, float* a) {
  const V32 factor = splat(s);
  for_vectors(
      n, [&](int64_t i, auto io) HWY_ATTR { io.store(hn::MulAdd(io.load(c + i), factor, io.load(b + i)), a + i); });
}

// Returns the sum of all chains so that none is removed; they start from different values so that none are merged.
HWY_ATTR float FmaLoop(int64_t rounds, int64_t* flops) {
  const V32 x = splat(0.999F), y = splat(1e-3F);
  V32 v0 = splat(0.1F), v1 = splat(0.2F), v2 = splat(0.3F), v3 = splat(0.4F), v4 = splat(0.5F), v5 = splat(0.6F);
  V32 v6 = splat(0.7F), v7 = splat(0.8F), v8 = splat(0.9F), v9 = splat(1.1F), va = splat(1.2F), vb = splat(1.3F);
  for (int64_t i = 0; i < rounds; ++i) {
    v0 = hn::MulAdd(v0, x, y);
    v1 = hn::MulAdd(v1, x, y);
    v2 = hn::MulAdd(v2, x, y);
    v3 = hn::MulAdd(v3, x, y);
    v4 = hn::MulAdd(v4, x, y);
    v5 = hn::MulAdd(v5, x, y);
    v6 = hn::MulAdd(v6, x, y);
    v7 = hn::MulAdd(v7, x, y);
    v8 = hn::MulAdd(v8, x, y);
    v9 = hn::MulAdd(v9, x, y);
    va = hn::MulAdd(va, x, y);
    vb = hn::MulAdd(vb, x, y);
  }
  *flops = rounds * 12 * 2 * static_cast<int64_t>(hn::Lanes(F32()));
  const V32 low = hn::Add(hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)), hn::Add(v4, v5));
  const V32 high = hn::Add(hn::Add(hn::Add(v6, v7), hn::Add(v8, v9)), hn::Add(va, vb));
  return sum_lanes(hn::Add(low, high));
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(Triad);
HWY_EXPORT(FmaLoop);

constexpr int64_t kElements = int64_t{16} << 20;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
}  // namespace

Ceilings::Ceilings() : a_(static_cast<size_t>(kElements), 1.0F), b_(a_), c_(a_) {}

double Ceilings::triad_bytes_per_second() const {
  const double start = now();
  parallel_for(kElements, 1, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(Triad)(b_.data() + begin, c_.data() + begin, 0.5F, end - begin, a_.data() + begin);
  });
  return 12.0 * static_cast<double>(kElements) / (now() - start);
}

double Ceilings::fma_flops_per_second() const {
  constexpr int64_t kRounds = 1000000;
  std::vector<double> rates(static_cast<size_t>(thread_count()));
  const auto threads = static_cast<int64_t>(rates.size());
  parallel_for(threads, 1, [&](int64_t begin, int64_t) {
    int64_t flops = 0;
    const double start = now();
    if (HWY_DYNAMIC_DISPATCH(FmaLoop)(kRounds, &flops) < 0.0F) std::abort();
    rates[static_cast<size_t>(begin)] = static_cast<double>(flops) / (now() - start);
  });
  double sum = 0.0;
  for (const double r : rates) sum += r;
  return sum;
}

}  // namespace farsight
#endif  // HWY_ONCE
