// SPDX-License-Identifier: Apache-2.0
// Attention of one layer on a device: the own tile kernels beside the library at the same shapes, causal, bf16. FLOPs
// are those of the visible half: 4 D forward and 10 D backward for each pair of tokens and head. Backward is what a
// training step does: row terms, then dq, dk and dv, without the forward pass.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/block.h"
#include "kernels/error.h"
#include "kernels/rows.h"
#include "tests/bench/device_timer.h"

namespace farsight::testing {
namespace {

struct Sizes {
  int64_t tokens, heads, kv_heads, width;
  double pairs() const { return 0.5 * static_cast<double>(tokens) * static_cast<double>(tokens + 1); }
  double forward_flops() const { return 4.0 * pairs() * static_cast<double>(heads * width); }
  double backward_flops() const { return 10.0 * pairs() * static_cast<double>(heads * width); }
};

struct Inputs {
  Tensor q, k, v, dout;
};

// Inputs in turns; one set of results.
class Problem {
 public:
  Problem(const DeviceBenchOptions& options, const Sizes& s) : sizes_(s) {
    std::vector<int32_t> positions(static_cast<size_t>(s.tokens));
    std::iota(positions.begin(), positions.end(), 0);
    positions_ = device_copy(positions);
    const int64_t query = s.heads * s.width, key = s.kv_heads * s.width;
    const int64_t sets = sets_beyond_caches(options, 2 * s.tokens * (query + 2 * key));
    for (int64_t i = 0; i < sets; ++i) {
      const auto seed = static_cast<uint64_t>(4 * i);
      inputs_.push_back({bf16(query, seed), bf16(key, seed + 1), bf16(key, seed + 2), bf16(query, seed + 3)});
    }
    for (Tensor* t : {&out_, &dq_}) *t = Tensor::empty({s.tokens, query}, DType::bf16);
    for (Tensor* t : {&dk_, &dv_}) *t = Tensor::empty({s.tokens, key}, DType::bf16);
    for (Tensor* t : {&lse_, &term_}) *t = Tensor::empty({1, s.heads, s.tokens});
  }

  void forward(AttentionBackend backend, int64_t round) const {
    const Inputs& in = at(round);
    attention_forward(spec(backend), queries(in), keys(in), out_, lse_, {});
  }
  // After forward() with the same round.
  void backward(AttentionBackend backend, int64_t round) const {
    const Inputs& in = at(round);
    attention_backward_rows(lse_, out_, in.dout, sizes_.width, {}, {}, {}, term_);
    attention_backward_block(spec(backend), queries(in), keys(in), {lse_, term_, {}, in.dout, out_},
                             {dq_, dk_, dv_, {}, /*add_q=*/false, /*add_kv=*/false});
  }

 private:
  Tensor bf16(int64_t columns, uint64_t seed) const {
    return random_tensor({sizes_.tokens, columns}, DType::bf16, seed);
  }
  const Inputs& at(int64_t round) const { return inputs_[static_cast<size_t>(round) % inputs_.size()]; }
  static AttentionSpec spec(AttentionBackend backend) {
    AttentionSpec spec;
    spec.backend = backend;
    return spec;
  }
  // What says that the rows follow each other, without which the library is not asked.
  std::vector<PositionRun> runs() const { return {{sizes_.tokens, 0, 1}}; }
  AttentionQueries queries(const Inputs& in) const {
    return {in.q, 1, sizes_.tokens, sizes_.heads, sizes_.width, positions_, {}, {}, {}, 0, runs()};
  }
  AttentionKeys keys(const Inputs& in) const {
    return {in.k, in.v, sizes_.tokens, sizes_.kv_heads, sizes_.width, sizes_.width, positions_, {}, runs()};
  }

  Sizes sizes_;
  Tensor positions_, out_, lse_, term_, dq_, dk_, dv_;
  std::vector<Inputs> inputs_;
};

// TFLOP/s; 0 with a line when this backend refuses.
double timed(CudaDevice& device, const DeviceBenchOptions& options, const std::string& what, double flops,
             const std::function<void(int64_t)>& run) {
  try {
    return flops / device_seconds(device, options, run) * 1e-12;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::config) throw;
    report(options, {what, 0.0, "TFLOP/s", {}, 0.0, error.what()});
    return 0.0;
  }
}

void bench_length(CudaDevice& device, const DeviceBenchOptions& options, const Sizes& s) {
  const Problem problem(options, s);
  const std::string shape = fmt::format("H{}/{} D{} T {}", s.heads, s.kv_heads, s.width, s.tokens);
  const auto forward = [&](const char* name, AttentionBackend backend) {
    return timed(device, options, fmt::format("forward {} {}", name, shape), s.forward_flops(),
                 [&](int64_t i) { problem.forward(backend, i); });
  };
  // The results of the last forward round serve all rounds: any gradients of the right size take as long.
  const auto backward = [&](const char* name, AttentionBackend backend) {
    return timed(device, options, fmt::format("backward {} {}", name, shape), s.backward_flops(),
                 [&](int64_t i) { problem.backward(backend, i); });
  };
  const auto both = [&](const char* direction, double own, double library) {
    if (library > 0.0) report(options, {fmt::format("{} cuDNN {}", direction, shape), library, "TFLOP/s"});
    if (own > 0.0) report(options, {fmt::format("{} own {}", direction, shape), own, "TFLOP/s", "cuDNN", library});
  };
  const double library_forward = forward("cuDNN", AttentionBackend::library);
  both("forward", forward("own", AttentionBackend::own), library_forward);
  const double repeatable = backward("cuDNN deterministic", AttentionBackend::library);
  device.set_deterministic(false);
  const double library_backward = backward("cuDNN", AttentionBackend::library);
  device.set_deterministic(true);
  if (repeatable > 0.0) {
    report(options, {fmt::format("backward cuDNN deterministic {}", shape), repeatable, "TFLOP/s", "cuDNN in any order",
                     library_backward});
  }
  both("backward", backward("own", AttentionBackend::own), library_backward);
}

}  // namespace

void bench_attention_kernels(CudaDevice& device, const DeviceBenchOptions& options) {
  if (options.tiny) return bench_length(device, options, {64, 4, 2, 32});
  for (const int64_t tokens : {2048, 4096, 8192, 16384, 32768}) {
    bench_length(device, options, {tokens, 64, 8, 128});
  }
  bench_length(device, options, {8192, 16, 16, 128});
}

}  // namespace farsight::testing
