// SPDX-License-Identifier: Apache-2.0
// Kernels on a CUDA device, timed with its events and beside each other in one run: medians of 20 rounds after 10, on
// random inputs that take turns over more than the caches hold.
//
//   device_bench [--tiny] [--json] [ceilings|attention|fused]...      all three by default
//
// --tiny: shapes small enough for the emulated device, where times mean nothing. --json: one object on a line.
// Exit code 69 when there is no device.
#include <exception>
#include <set>
#include <string>

#include <fmt/core.h>

#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "kernels/matmul.h"
#include "tests/bench/device_timer.h"

namespace farsight::testing {
namespace {

constexpr double kDensePeak = 989.4e12;  // bf16 of an H100 or H200 SXM, data sheet

double bench_copy(CudaDevice& device, const DeviceBenchOptions& options) {
  const int64_t count = options.tiny ? 4096 : int64_t{1} << 28;
  const Tensor from = random_tensor({count}, DType::f32, 1), to = Tensor::empty({count});
  const double rate = 2.0 * static_cast<double>(from.bytes()) / device_seconds(device, options, [&](int64_t) {
                        device.copy(from.raw(), to.raw(), from.bytes());
                      });
  report(options, {"device copy, read and written", rate * 1e-9, "GB/s"});
  return rate;
}

void bench_product(CudaDevice& device, const DeviceBenchOptions& options, int64_t n) {
  std::vector<Tensor> a, b;
  for (int64_t i = 0; i < sets_beyond_caches(options, 4 * n * n); ++i) {
    a.push_back(random_tensor({n, n}, DType::bf16, 10 + static_cast<uint64_t>(i)));
    b.push_back(random_tensor({n, n}, DType::bf16, 90 + static_cast<uint64_t>(i)));
  }
  const Tensor c = Tensor::empty({n, n}, DType::bf16);
  const double seconds = device_seconds(device, options, [&](int64_t i) {
    const size_t set = static_cast<size_t>(i) % a.size();
    matmul(Transpose::no, Transpose::yes, a[set], b[set], 0.0F, c);
  });
  const auto size = static_cast<double>(n);
  report(options, {fmt::format("product {0}x{0}x{0} bf16", n), 2.0 * size * size * size / seconds * 1e-12, "TFLOP/s",
                   "data sheet", kDensePeak * 1e-12});
}

int run(const DeviceBenchOptions& options, const std::set<std::string>& sections) {
  if (cuda_library().table == nullptr) {
    fmt::print(stderr, "device_bench: {}\n", cuda_library().reason);
    return 69;
  }
  CudaDevice device(0);
  const CudaScope scope(device);
  fmt::print(stderr, "device_bench: {}\n", device.info().name);
  const auto wanted = [&](const char* name) { return sections.empty() || sections.contains(name); };
  double copy_rate = 0.0;
  if (wanted("ceilings") || wanted("fused")) copy_rate = bench_ceilings(device, options);
  if (wanted("attention")) bench_attention_kernels(device, options);
  if (wanted("fused")) bench_fused_kernels(device, options, copy_rate);
  return 0;
}

}  // namespace

double bench_ceilings(CudaDevice& device, const DeviceBenchOptions& options) {
  const double rate = bench_copy(device, options);
  for (const int64_t n : options.tiny ? std::vector<int64_t>{32} : std::vector<int64_t>{4096, 8192}) {
    bench_product(device, options, n);
  }
  return rate;
}

}  // namespace farsight::testing

int main(int argc, char** argv) {
  farsight::testing::DeviceBenchOptions options;
  std::set<std::string> sections;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--tiny") {
      options.tiny = true;
      options.warm_up = 1;
      options.repeats = 2;
    } else if (name == "--json") {
      options.json = true;
    } else if (name == "ceilings" || name == "attention" || name == "fused") {
      sections.insert(name);
    } else {
      fmt::print(stderr, "usage: device_bench [--tiny] [--json] [ceilings|attention|fused]...\n");
      return 64;
    }
  }
  try {
    return farsight::testing::run(options, sections);
  } catch (const std::exception& error) {
    fmt::print(stderr, "device_bench: {}\n", error.what());
    return 1;
  }
}
