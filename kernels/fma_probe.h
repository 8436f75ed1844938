// SPDX-License-Identifier: Apache-2.0
// The ceiling that speeds are compared with: what the cores can do in fused multiply-adds that never leave registers.
#pragma once

namespace farsight {

// fp32 FLOP/s (2 per FMA) of all threads of the calling thread together, the best of several stretches that take about
// `seconds` in all. Uses the widest vectors the processor has.
double measure_fma_peak(double seconds = 0.03);

// The vector instruction set in use: "AVX3" (AVX-512), "AVX2" ...
const char* simd_target();

}  // namespace farsight
