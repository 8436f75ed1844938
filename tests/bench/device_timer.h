// SPDX-License-Identifier: Apache-2.0
// Times of work on a device between two events of its stream, and the lines that the GPU suite collects.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/cuda/device.h"
#include "kernels/tensor.h"

namespace farsight::testing {

struct DeviceBenchOptions {
  bool tiny = false;  // shapes for the emulated device: does it run, not how fast
  bool json = false;
  int warm_up = 10, repeats = 20;
};

// Caches hold less than this; inputs of one measurement take turns over as much.
inline constexpr int64_t kBeyondCaches = int64_t{256} << 20;
// How many sets of inputs of `bytes` each.
int64_t sets_beyond_caches(const DeviceBenchOptions& options, int64_t bytes);

// Median seconds of run(round). Rounds are enqueued one behind the other, so that the host runs ahead of the device.
double device_seconds(CudaDevice& device, const DeviceBenchOptions& options, const std::function<void(int64_t)>& run);

// Standard normals times `scale`. On the device, f32 or bf16: zeros would draw less power and run faster.
Tensor random_tensor(const Shape& shape, DType type, uint64_t seed, float scale = 1.0F);

// One line: a rate, and beside it the reference with its rate (0: there is none).
struct DeviceFigure {
  std::string what;
  double value = 0.0;
  std::string unit;
  std::string reference = {};
  double reference_value = 0.0;
  std::string note = {};  // why there is no value, or what it means
};
void report(const DeviceBenchOptions& options, const DeviceFigure& figure);

// Products of matrices and copies: what the device can do. Returns bytes copied per second, read and written.
double bench_ceilings(CudaDevice& device, const DeviceBenchOptions& options);
// The own tile kernels and the library, forward and backward.
void bench_attention_kernels(CudaDevice& device, const DeviceBenchOptions& options);
// Kernels that are bound by memory, as a share of `copy_rate`.
void bench_fused_kernels(CudaDevice& device, const DeviceBenchOptions& options, double copy_rate);

}  // namespace farsight::testing
