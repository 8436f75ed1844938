// SPDX-License-Identifier: Apache-2.0
#include "trainer/bench_kernels.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <ostream>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "kernels/fma_probe.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/parallel_for.h"
#include "kernels/swiglu.h"
#include "parallel/inproc_comm.h"
#include "parallel/ring_attention.h"

namespace farsight {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Fastest of the runs that fit into the time, after one that is not counted. All ranks of `world` at once, and the
// slowest of them counts.
double best_seconds(Communicator& world, double seconds, const std::function<double()>& run) {
  run();
  world.barrier();
  double best = run();
  const auto repeats = static_cast<int>(std::clamp(seconds / std::max(best, 1e-6), 5.0, 50.0));
  for (int i = 0; i < repeats; ++i) best = std::min(best, run());
  world.all_reduce(std::span<double>(&best, 1), ReduceOp::max);
  return best;
}

Tensor filled(Shape shape) {
  Tensor t = Tensor::empty(std::move(shape));
  std::fill_n(t.data<float>(), t.numel(), 0.01F);
  return t;
}

// seconds = fixed + x / rate, with relative errors; x is scaled to whole numbers. On a disturbed machine the line may
// be nonsense: the rate stays between the best that was seen and a quarter more, and the rest is averaged over the
// points.
struct RateLine {
  double rate = 0.0, fixed = 0.0;
};
RateLine fit_rate(const std::vector<std::pair<double, double>>& points, double scale) {
  std::vector<CommSample> samples;
  double best = 0.0;
  for (const auto& [x, t] : points) {
    samples.push_back({static_cast<int64_t>(x * scale), t});
    best = std::max(best, x / t);
  }
  RateLine line;
  line.rate = std::clamp(1.0 / std::max(fit_cost(samples).beta_s_per_byte * scale, 1e-30), best, 1.25 * best);
  for (const auto& [x, t] : points) line.fixed += (t - x / line.rate) / static_cast<double>(points.size());
  return line;
}

struct Product {
  int64_t m, n, k;
};

void measure_products(Communicator& world, double seconds, Calibration& c) {
  std::vector<std::pair<double, double>> points;  // FLOPs per byte, seconds per byte
  for (const auto& [m, n, k] : {Product{128, 256, 256}, Product{512, 256, 256}, Product{1024, 512, 256},
                                Product{1024, 256, 704}, Product{1024, 2048, 256}, Product{512, 1024, 1024}}) {
    const Tensor a = filled({m, k}), b = filled({n, k}), y = filled({m, n});
    const double t = best_seconds(world, seconds, [&, m = m, n = n, k = k] {
      return seconds_of([&] {
        matmul(Transpose::no, Transpose::yes, m, n, k, 1.0F, a.data<float>(), k, b.data<float>(), k, 0.0F,
               y.data<float>(), n);
      });
    });
    const auto bytes = static_cast<double>(4 * (m * k + n * k + m * n));
    points.emplace_back(2.0 * static_cast<double>(m * n * k) / bytes, t / bytes);
  }
  const RateLine fit = fit_rate(points, 1024.0);
  c.product_flops = fit.rate;
  c.product_bytes = 1.0 / std::max(fit.fixed, 1e-13);
}

// Forward and backward seconds of causal attention over `tokens`.
std::array<double, 2> attention(Communicator& self, int64_t tokens, int64_t heads, int64_t width) {
  SequenceBatch batch;
  batch.batch = 1;
  batch.layout = SequenceLayout(SequenceOrder::contiguous, tokens, 1);
  batch.samples = {0};
  RingOptions options;
  options.heads = options.kv_heads = heads;
  AttentionSpec spec;
  spec.causal = true;
  Tape tape;
  const auto input = [&] { return tape.input(filled({tokens, heads * width}), /*requires_grad=*/true); };
  const Var q = input(), k = input(), v = input();
  Var out;
  std::array<double, 2> times{};
  times[0] = seconds_of([&] { out = ring_attention(tape, self, spec, q, k, v, batch, options).out; });
  const Var root = tape.variable(Tensor::zeros({1}), {out});
  tape.record(root, {}, [out] { out.begin_gradient().tensor.fill_zero(); });
  times[1] = seconds_of([&] { tape.backward(root); });
  return times;
}

void measure_attention(Communicator& world, double seconds, Calibration& c) {
  constexpr int64_t heads = 4, width = 64;
  const auto self = make_self_communicator();
  std::array<std::vector<std::pair<double, double>>, 2> points;  // keys, seconds per FLOP times keys
  for (const int64_t tokens : {128, 512, 2048}) {
    const double keys = static_cast<double>(tokens + 1) / 2.0;
    const double pairs = keys * static_cast<double>(tokens * heads * width);
    for (size_t pass = 0; pass < 2; ++pass) {
      const double t = best_seconds(world, seconds, [&] { return attention(*self, tokens, heads, width)[pass]; });
      points[pass].emplace_back(keys, keys * t / (pairs * (pass == 0 ? 4.0 : 10.0)));
    }
  }
  const RateLine forward = fit_rate(points[0], 2.0), backward = fit_rate(points[1], 2.0);
  c.attention_forward = forward.rate;
  c.attention_backward = backward.rate;
  c.attention_half = std::max(0.0, forward.fixed * forward.rate);
}

// A norm with its residual sum and a gated activation, forward and backward, in the bytes that step_time.cc counts.
void measure_elementwise(Communicator& world, double seconds, Calibration& c) {
  constexpr int64_t rows = 1024, width = 256, gated = 704;
  ParameterStore store;
  Parameter& weight = store.add("weight", Shape{width}, {});
  store.allocate();
  const double t = best_seconds(world, seconds, [&] {
    Tape tape;
    const Var x = tape.input(filled({rows, width}), true), residual = tape.input(filled({rows, width}), true);
    const Var up = tape.input(filled({rows, 2 * gated}), true);
    return seconds_of([&] {
      const auto normed = norm_residual(tape, x, residual, weight, nullptr, NormKind::rms, 1e-5F, nullptr);
      const Var activated = swiglu(tape, up);
      const Var root = tape.variable(Tensor::zeros({1}), {normed.normed, normed.residual, activated});
      tape.record(root, {}, [&] {
        for (const Var& v : {normed.normed, normed.residual, activated}) v.begin_gradient().tensor.fill_zero();
      });
      tape.backward(root);
    });
  });
  const double bytes = 4.0 * static_cast<double>(rows * (9 * width + 3 * gated + 5 * gated));
  c.memory_bytes = bytes / t;
}

Calibration measure_at_once(int ranks, int threads, double seconds) {
  Calibration result;
  run_in_process(
      ranks,
      [&](Communicator& world) {
        Calibration c;
        double peak = measure_fma_peak();
        world.all_reduce(std::span<double>(&peak, 1), ReduceOp::min);
        c.peak_flops = peak;
        measure_products(world, seconds, c);
        measure_attention(world, seconds, c);
        measure_elementwise(world, seconds, c);
        c.peak_flops = std::max(c.peak_flops, c.product_flops);  // the probe was disturbed
        if (world.rank() == 0) result = c;
      },
      {}, threads);
  return result;
}

}  // namespace

Calibration measure_kernels(const BenchKernelsOptions& options) {
  const int threads = thread_count();
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int ranks = options.ranks > 0 ? options.ranks : std::max(1, cores / threads);
  Calibration alone = measure_at_once(1, threads, options.seconds);
  alone.comm = default_cpu_calibration().comm;
  alone.operation_s = default_cpu_calibration().operation_s;
  alone.concurrency = ranks;
  if (ranks == 1) return alone;
  const Calibration together = measure_at_once(ranks, threads, options.seconds);
  alone.slowdown = std::max(1.0, alone.product_flops / together.product_flops);
  return alone;
}

int bench_kernels(const BenchKernelsOptions& options, bool json, std::ostream& out) {
  Calibration c = measure_kernels(options);
  if (json) {
    c.comm.clear();
    out << calibration_json(c);
    return 0;
  }
  out << fmt::format("{} thread(s) per rank, {}\n", thread_count(), matmul_library());
  out << fmt::format("FMA peak              {:8.1f} GFLOP/s\n", c.peak_flops / 1e9);
  out << fmt::format("products              {:8.1f} GFLOP/s ({:.0f} % of the peak), {:.1f} GB/s of operands\n",
                     c.product_flops / 1e9, 100.0 * c.product_flops / c.peak_flops, c.product_bytes / 1e9);
  out << fmt::format("attention forward     {:8.1f} GFLOP/s ({:.0f} %), half of it at {:.0f} keys\n",
                     c.attention_forward / 1e9, 100.0 * c.attention_forward / c.peak_flops, c.attention_half);
  out << fmt::format("attention backward    {:8.1f} GFLOP/s ({:.0f} %)\n", c.attention_backward / 1e9,
                     100.0 * c.attention_backward / c.peak_flops);
  out << fmt::format("elementwise           {:8.1f} GB/s\n", c.memory_bytes / 1e9);
  out << fmt::format("{} ranks at once take {:.2f} times as long as one\n", c.concurrency, c.slowdown);
  return 0;
}

}  // namespace farsight
