// SPDX-License-Identifier: Apache-2.0
#include "kernels/fma_probe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/fma_probe.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace farsight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Twelve chains hide the latency of two FMA units; they start from different values, or the compiler merges them.
double fma_chains(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999F);
  const auto term = hn::Set(d, 0.001F);
  auto a0 = hn::Iota(d, 0.0F), a1 = hn::Iota(d, 1.0F), a2 = hn::Iota(d, 2.0F), a3 = hn::Iota(d, 3.0F);
  auto a4 = hn::Iota(d, 4.0F), a5 = hn::Iota(d, 5.0F), a6 = hn::Iota(d, 6.0F), a7 = hn::Iota(d, 7.0F);
  auto a8 = hn::Iota(d, 8.0F), a9 = hn::Iota(d, 9.0F), a10 = hn::Iota(d, 10.0F), a11 = hn::Iota(d, 11.0F);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, factor, term), a1 = hn::MulAdd(a1, factor, term), a2 = hn::MulAdd(a2, factor, term);
    a3 = hn::MulAdd(a3, factor, term), a4 = hn::MulAdd(a4, factor, term), a5 = hn::MulAdd(a5, factor, term);
    a6 = hn::MulAdd(a6, factor, term), a7 = hn::MulAdd(a7, factor, term), a8 = hn::MulAdd(a8, factor, term);
    a9 = hn::MulAdd(a9, factor, term), a10 = hn::MulAdd(a10, factor, term), a11 = hn::MulAdd(a11, factor, term);
  }
  const auto s0 = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)));
  *sink += hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, hn::Add(hn::Add(a8, a9), hn::Add(a10, a11)))));
  return static_cast<double>(rounds) * 12.0 * 2.0 * static_cast<double>(hn::Lanes(d));
}

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace farsight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {

HWY_EXPORT(fma_chains);
HWY_EXPORT(target_name);

double measure_fma_peak(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int kStretches = 6;
  constexpr int64_t kRounds = 20000;  // about 0.1 ms
  const int threads = thread_count();
  double best = 0.0;
  for (int stretch = 0; stretch < kStretches; ++stretch) {
    std::array<double, 256> flops{};
    std::array<float, 256> sinks{};
    const auto start = Clock::now();
    const auto end = start + std::chrono::duration<double>(seconds / kStretches);
    parallel_for(threads, 1, [&](int64_t begin, int64_t) {
      const auto me = static_cast<size_t>(begin) % flops.size();
      while (Clock::now() < end) flops[me] += HWY_DYNAMIC_DISPATCH(fma_chains)(kRounds, &sinks[me]);
    });
    double total = 0.0;
    for (const double f : flops) total += f;
    volatile float keep = sinks[0];
    static_cast<void>(keep);
    best = std::max(best, total / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

const char* simd_target() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

}  // namespace farsight
#endif
