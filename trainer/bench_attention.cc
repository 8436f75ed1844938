// SPDX-License-Identifier: Apache-2.0
#include "trainer/bench_attention.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ostream>

#include <fmt/format.h>

#include "kernels/attention/block.h"
#include "kernels/error.h"
#include "kernels/fma_probe.h"
#include "kernels/matmul.h"
#include "kernels/parallel_for.h"
#include "kernels/random.h"
#include "kernels/tensor.h"
#include "trainer/bench_dense_attention.h"

namespace farsight {
namespace {

constexpr double kTolerance = 1e-4;
constexpr double kProbeSeconds = 0.004;  // six stretches shorter than a time slice, or a busy machine hides the peak
constexpr int kProbes = 8;

Tensor normals(int64_t tokens, int64_t columns, uint64_t key) {
  const Tensor x = Tensor::empty({tokens, columns});
  parallel_for(x.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      x.data<float>()[i] = static_cast<float>(normal_variate(key, static_cast<uint64_t>(i)));
    }
  });
  return x;
}

// Data of one length and the passes that are timed.
class Problem {
 public:
  Problem(const BenchAttentionOptions& options, int64_t tokens)
      : heads_(options.heads),
        width_(options.width),
        tokens_(tokens),
        stride_(options.heads * options.width),
        positions_(Tensor::empty({tokens}, DType::i32)),
        q_(normals(tokens, stride_, options.seed)),
        k_(normals(tokens, stride_, options.seed + 1)),
        v_(normals(tokens, stride_, options.seed + 2)),
        dout_(normals(tokens, stride_, options.seed + 3)),
        out_(Tensor::empty({tokens, stride_})),
        dq_(Tensor::empty({tokens, stride_})),
        dk_(Tensor::empty({tokens, stride_})),
        dv_(Tensor::empty({tokens, stride_})),
        lse_(Tensor::empty({1, heads_, tokens})),
        term_(Tensor::empty({1, heads_, tokens})),
        state_(AttentionState::create(1, tokens, heads_, width_, false)) {
    std::iota(positions_.data<int32_t>(), positions_.data<int32_t>() + tokens, 0);
  }

  void forward() {
    state_.reset();
    attention_forward_block(spec_, queries(), keys(), state_);
    attention_finish(state_, out_, lse_, {});
  }

  void backward() {
    attention_backward_rows(lse_, out_, dout_, width_, {}, {}, {}, term_);
    attention_backward_block(spec_, queries(), keys(), {lse_, term_, {}, dout_},
                             {dq_, dk_, dv_, {}, /*add_q=*/false, /*add_kv=*/false});
  }

  // Calls each(head, offset of the head in a row).
  template <class Each>
  void each_head(const Each& each) const {
    for (int64_t at = 0; at < stride_; at += width_) {
      each(DenseHead{q_.data<float>() + at, k_.data<float>() + at, v_.data<float>() + at, tokens_, width_, stride_},
           at);
    }
  }

  Tensor square() const { return Tensor::empty({tokens_, tokens_}); }
  Tensor like_output() const { return Tensor::empty({tokens_, stride_}); }
  const Tensor& out() const { return out_; }
  const Tensor& dout() const { return dout_; }
  const Tensor& dq() const { return dq_; }
  const Tensor& dk() const { return dk_; }
  const Tensor& dv() const { return dv_; }
  double visible_pairs() const {
    return 0.5 * static_cast<double>(tokens_) * static_cast<double>(tokens_ + 1) * static_cast<double>(heads_);
  }

 private:
  AttentionQueries queries() const { return {q_, 1, tokens_, heads_, width_, positions_, {}, {}, {}, 0}; }
  AttentionKeys keys() const { return {k_, v_, tokens_, heads_, width_, width_, positions_, {}}; }

  AttentionSpec spec_;
  int64_t heads_, width_, tokens_, stride_;
  Tensor positions_;
  Tensor q_, k_, v_, dout_, out_, dq_, dk_, dv_, lse_, term_;
  AttentionState state_;
};

// The dense reference with its T x T buffers.
class DenseReference {
 public:
  explicit DenseReference(const Problem& problem)
      : problem_(problem), weights_(problem.square()), out_(problem.like_output()) {}

  void forward(DenseSoftmax softmax) const {
    problem_.each_head([&](const DenseHead& head, int64_t at) {
      dense_head_forward(head, softmax, weights_.data<float>(), out_.data<float>() + at);
    });
  }

  void forward_and_backward() {
    if (!work_.defined()) {
      work_ = problem_.square();
      for (Tensor* gradient : {&dq_, &dk_, &dv_}) *gradient = problem_.like_output();
    }
    problem_.each_head([&](const DenseHead& head, int64_t at) {
      dense_head_forward(head, DenseSoftmax::vector, weights_.data<float>(), out_.data<float>() + at);
      dense_head_backward(
          head, weights_.data<float>(),
          {problem_.dout().data<float>() + at, dq_.data<float>() + at, dk_.data<float>() + at, dv_.data<float>() + at},
          work_.data<float>());
    });
  }

  double forward_error() const { return difference(problem_.out(), out_); }
  double backward_error() const {
    return std::max({difference(problem_.dq(), dq_), difference(problem_.dk(), dk_), difference(problem_.dv(), dv_)});
  }

 private:
  static double difference(const Tensor& a, const Tensor& b) {
    double error = 0.0, largest = 0.0;
    for (int64_t i = 0; i < a.numel(); ++i) {
      const auto x = static_cast<double>(a.data<float>()[i]), y = static_cast<double>(b.data<float>()[i]);
      error = std::max(error, std::abs(x - y));
      largest = std::max(largest, std::abs(y));
    }
    return std::isfinite(error) ? error / largest : error;
  }

  const Problem& problem_;
  Tensor weights_, out_, work_, dq_, dk_, dv_;
};

double seconds_now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Times of one pass, collected round by round so that the passes are interleaved.
class Timer {
 public:
  explicit Timer(bool cpu_clock) : clock_(cpu_clock ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) {}

  template <class Pass>
  void run(const Pass& pass) {
    const double start = seconds_now(clock_);
    pass();
    seconds_.push_back(seconds_now(clock_) - start);
  }

  BenchTime time() {
    if (seconds_.empty()) return {};
    std::sort(seconds_.begin(), seconds_.end());
    return {seconds_[seconds_.size() / 2], seconds_.front(), seconds_.back()};
  }

 private:
  clockid_t clock_;
  std::vector<double> seconds_;
};

void expect_agreement(const char* pass, double error) {
  if (!(error <= kTolerance)) {
    fail(ErrorKind::internal, "bench attention: {} differs from the dense reference by {:.3g}, at most {:.3g} expected",
         pass, error, kTolerance);
  }
}

// Also the warm-up of every pass.
void compare(Problem& problem, DenseReference& dense, const BenchAttentionOptions& options, AttentionBenchResult& r) {
  problem.forward();
  for (const auto softmax : {DenseSoftmax::scalar, DenseSoftmax::vector}) {
    dense.forward(softmax);
    r.forward_error = std::max(r.forward_error, dense.forward_error());
  }
  expect_agreement("forward", r.forward_error);
  if (!options.backward) return;
  problem.backward();
  dense.forward_and_backward();
  r.backward_error = dense.backward_error();
  expect_agreement("backward", r.backward_error);
}

void print_ours(std::ostream& out, const AttentionBenchResult& r, const char* pass, const BenchTime& time,
                double flops) {
  out << fmt::format("  {:<34} {:>9.1f} ms  ({:.1f} .. {:.1f})  {:>6.1f} GFLOP/s  {:.2f} of the FMA peak\n", pass,
                     time.median * 1e3, time.fastest * 1e3, time.slowest * 1e3, flops / time.median * 1e-9,
                     flops / time.median / r.peak_flops);
}

void print_dense(std::ostream& out, const char* pass, const BenchTime& time, double ours) {
  out << fmt::format("  {:<34} {:>9.1f} ms  ({:.1f} .. {:.1f})  x{:.2f} ours\n", pass, time.median * 1e3,
                     time.fastest * 1e3, time.slowest * 1e3, time.median / ours);
}

void print(std::ostream& out, const BenchAttentionOptions& options, const AttentionBenchResult& r) {
  out << fmt::format("attention causal B1 H{} T{} D{} f32, {} threads{}, {}: FMA peak {:.1f} GFLOP/s\n", options.heads,
                     r.tokens, options.width, r.threads, options.cpu_clock ? " (processor time)" : "", simd_target(),
                     r.peak_flops * 1e-9);
  print_ours(out, r, "forward", r.forward, r.forward_flops);
  print_dense(out, "  dense, rows in scalar expf", r.dense_forward, r.forward.median);
  print_dense(out, "  dense, vectorised causal softmax", r.dense_vector_forward, r.forward.median);
  if (options.backward) {
    const double both = r.forward.median + r.backward.median;
    print_ours(out, r, "backward", r.backward, r.backward_flops);
    print_dense(out, "  dense forward + backward", r.dense_backward, both);
  }
  out << fmt::format("  largest difference: forward {:.1e}, gradients {:.1e}\n", r.forward_error, r.backward_error);
  out.flush();
}

// Passes in turn, round by round, with a probe of the peak before each round.
void time_rounds(Problem& problem, DenseReference& dense, const BenchAttentionOptions& options,
                 AttentionBenchResult& r) {
  Timer forward(options.cpu_clock), backward(options.cpu_clock), scalar(options.cpu_clock), vector(options.cpu_clock),
      both(options.cpu_clock);
  for (int round = 0; round < std::max(options.repeats, options.reference_repeats); ++round) {
    for (int probe = 0; probe < kProbes; ++probe)
      r.peak_flops = std::max(r.peak_flops, measure_fma_peak(kProbeSeconds));
    if (round < options.repeats) {
      forward.run([&] { problem.forward(); });
      if (options.backward) backward.run([&] { problem.backward(); });
    }
    if (round < options.reference_repeats) {
      scalar.run([&] { dense.forward(DenseSoftmax::scalar); });
      vector.run([&] { dense.forward(DenseSoftmax::vector); });
      if (options.backward) both.run([&] { dense.forward_and_backward(); });
    }
  }
  r.forward = forward.time();
  r.backward = backward.time();
  r.dense_forward = scalar.time();
  r.dense_vector_forward = vector.time();
  r.dense_backward = both.time();
}

// One thread while the clock counts the processor time of one.
class TeamForClock {
 public:
  explicit TeamForClock(bool cpu_clock) : before_(thread_count()) {
    if (cpu_clock) set_thread_count(1);
  }
  ~TeamForClock() { set_thread_count(before_); }
  TeamForClock(const TeamForClock&) = delete;
  TeamForClock& operator=(const TeamForClock&) = delete;

 private:
  int before_;
};

}  // namespace

AttentionBenchResult run_attention_bench(const BenchAttentionOptions& options, int64_t tokens) {
  const TeamForClock team(options.cpu_clock);
  Problem problem(options, tokens);
  DenseReference dense(problem);
  AttentionBenchResult r;
  r.tokens = tokens;
  r.threads = thread_count();
  r.forward_flops = 4.0 * static_cast<double>(options.width) * problem.visible_pairs();
  r.backward_flops = 2.5 * r.forward_flops;
  compare(problem, dense, options, r);
  time_rounds(problem, dense, options, r);
  return r;
}

int bench_attention(const BenchAttentionOptions& options, std::ostream& out) {
  out << "dense = matmul() of the whole T x T scores per head (" << matmul_library()
      << "), softmax of each row, matmul() with V; its backward uses the vectorised softmax\n";
  for (const int64_t tokens : options.tokens) print(out, options, run_attention_bench(options, tokens));
  return 0;
}

}  // namespace farsight
