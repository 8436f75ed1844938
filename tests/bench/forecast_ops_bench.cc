// SPDX-License-Identifier: Apache-2.0
// The operations of forecasters at the sizes of PatchTST, against the triad of this machine (see ops_bench.cc) and
// against plain loops of the same threads, measured in the same run and interleaved with them. Bytes are those of the
// passes over memory that are named; figures are medians.
//
//   forecast_ops_bench [batch * channels] [repeats] [part of a name]     (default 896 9)
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/batch_norm.h"
#include "kernels/dense_attention.h"
#include "kernels/forecast_loss.h"
#include "kernels/instance_norm.h"
#include "kernels/moving_average.h"
#include "kernels/parallel_for.h"
#include "kernels/patches.h"
#include "kernels/rows.h"
#include "tests/bench/ceilings.h"

namespace farsight {
namespace {

double seconds_of(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

struct Case {
  std::string name;
  double bytes;
  std::function<void()> run;
  std::function<void()> plain;  // may be empty
};

void report(const Case& c, const Ceilings& ceilings, int repeats) {
  c.run();
  std::vector<double> times, ratios, plain;
  for (int i = 0; i < repeats; ++i) {
    const double roof = ceilings.triad_bytes_per_second();
    times.push_back(seconds_of(c.run));
    ratios.push_back(c.bytes / times.back() / roof);
    if (c.plain) plain.push_back(seconds_of(c.plain) / times.back());
  }
  fmt::print("{:52} {:9.3f} ms (fastest {:8.3f}) {:7.2f} GB/s {:5.2f} of triad", c.name, 1e3 * median(times),
             1e3 * *std::min_element(times.begin(), times.end()), 1e-9 * c.bytes / median(times), median(ratios));
  c.plain ? fmt::print("  {:6.2f} x plain\n", median(plain)) : fmt::print("\n");
}

Tensor filled(const Shape& shape) {
  const Tensor t = Tensor::empty(shape);
  float* p = t.data<float>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i] = static_cast<float>(i * 2654435761 % 1024) / 512.0F - 1.0F;
  return t;
}

// Hands `y` a gradient, which backward may overwrite, and runs the tape.
void backward_from(Tape& tape, const Var& y, const Tensor& dy) {
  const Var root = tape.variable(Tensor::zeros({1}), {y});
  tape.record(root, {}, [y, dy] { y.adopt_gradient(dy); });
  tape.backward(root);
}

double bytes(double elements, double passes) { return 4.0 * elements * passes; }

using Cases = std::vector<Case>;

void plain_instance_norm(const Tensor& x, const Tensor& y) {
  const int64_t n = x.cols();
  parallel_for(x.rows(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* in = x.data<float>() + r * n;
      double mean = 0.0, square = 0.0;
      for (int64_t i = 0; i < n; ++i) mean += static_cast<double>(in[i]);
      mean /= static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i)
        square += (static_cast<double>(in[i]) - mean) * (static_cast<double>(in[i]) - mean);
      const auto rstd = static_cast<float>(1.0 / std::sqrt(square / static_cast<double>(n) + 1e-5));
      for (int64_t i = 0; i < n; ++i) y.data<float>()[r * n + i] = (in[i] - static_cast<float>(mean)) * rstd;
    }
  });
}

void add_windows(Cases& cases, int64_t series) {
  const Tensor x = filled({series, 336}), y = filled({series, 336});
  const auto n = static_cast<double>(x.numel());
  const auto forward = [x](auto op) {
    return [x, op] {
      Tape tape(/*recording=*/false);
      op(tape, tape.input(x));
    };
  };
  cases.push_back({"instance_norm L336 (2 passes)", bytes(n, 2.0),
                   forward([](Tape& t, const Var& v) { instance_norm(t, v); }), [x, y] { plain_instance_norm(x, y); }});
  cases.push_back({"patches P16 S8 (3 passes)",
                   bytes(n, 3.0),
                   forward([](Tape& t, const Var& v) { patches(t, v, 16, 8, 8); }),
                   {}});
  cases.push_back({"moving_average 25 (2 passes)",
                   bytes(n, 2.0),
                   forward([](Tape& t, const Var& v) { moving_average(t, v, 25); }),
                   {}});
}

void plain_mse(const Tensor& head, const Tensor& targets, const Tensor& dhead, float scale) {
  std::vector<double> sums(static_cast<size_t>(head.rows()));
  parallel_for(head.rows(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = r * head.cols(); i < (r + 1) * head.cols(); ++i) {
        const float u = targets.data<float>()[i] - head.data<float>()[i];
        dhead.data<float>()[i] = -2.0F * scale * u;
        sums[static_cast<size_t>(r)] += static_cast<double>(u) * static_cast<double>(u);
      }
    }
  });
}

void add_losses(Cases& cases, int64_t series) {
  struct Head {
    const char* name;
    ForecastLossOptions options;
  };
  using Kind = ForecastLossKind;
  const std::vector<Head> heads = {
      {"mse", {Kind::mse, 1e-5, 1.0, {}, {}}},
      {"quantile, 9 levels", {Kind::quantile, 1e-5, 1.0, {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}, {}}},
      {"gaussian", {Kind::gaussian, 1e-5, 1.0, {}, {}}},
      {"student_t", {Kind::student_t, 1e-5, 1.0, {}, {}}},
      {"mixture of 3",
       {Kind::mixture,
        1e-5,
        1.0,
        {},
        {{MixtureKind::gaussian, 1.0}, {MixtureKind::student_t, 1.0}, {MixtureKind::fixed, 0.1}}}}};
  for (const Head& h : heads) {
    const int64_t outputs = forecast_outputs(h.options);
    const Tensor head = filled({series, 96 * outputs}), y = filled({series, 96});
    const Tensor mean = filled({series}), std = Tensor::empty({series});
    fill(std, 1.5F);
    const double elements = static_cast<double>(series * 96) * static_cast<double>(2 * outputs + 1);
    const Tensor dhead = filled(head.shape());
    Case c{fmt::format("forecast_loss H96 with gradient, {}", h.name), bytes(elements, 1.0), {}, {}};
    c.run = [=, options = h.options] {
      Tape tape;
      ForecastTargets targets;
      targets.values = y;
      targets.mean = mean;
      targets.std = std;
      tape.backward(forecast_loss(tape, tape.input(head, true), targets, options).loss);
    };
    if (h.options.kind == Kind::mse) c.plain = [=] { plain_mse(head, y, dhead, 1e-5F); };
    cases.push_back(c);
  }
}

// Forward without a branch: sums, sums of squares, result; a column after the other within a row.
void plain_batch_norm(const Tensor& x, const Tensor& residual, const Tensor& sum, const Tensor& y) {
  const int64_t cols = x.cols();
  std::vector<double> mean(static_cast<size_t>(cols)), square(mean);
  for (int64_t i = 0; i < x.numel(); ++i) {
    sum.data<float>()[i] = x.data<float>()[i] + residual.data<float>()[i];
    mean[static_cast<size_t>(i % cols)] += static_cast<double>(sum.data<float>()[i]);
  }
  for (double& m : mean) m /= static_cast<double>(x.rows());
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double d = static_cast<double>(sum.data<float>()[i]) - mean[static_cast<size_t>(i % cols)];
    square[static_cast<size_t>(i % cols)] += d * d;
  }
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto c = static_cast<size_t>(i % cols);
    const double rstd = 1.0 / std::sqrt(square[c] / static_cast<double>(x.rows()) + 1e-5);
    y.data<float>()[i] = static_cast<float>((static_cast<double>(sum.data<float>()[i]) - mean[c]) * rstd);
  }
}

struct Norm {
  ParameterStore store;
  Parameter *weight, *bias, *mean, *var;
  explicit Norm(int64_t cols) {
    for (Parameter** p : {&weight, &bias, &mean, &var}) {
      *p = &store.add(fmt::format("p{}", store.parameters().size()), Shape{cols}, {Init::Kind::constant, 1.0});
    }
    store.allocate();
    store.initialize(1);
  }
  BatchNormParameters parameters() const { return {*weight, *bias, *mean, *var}; }
};

void add_norms(Cases& cases, int64_t series, int64_t cols) {
  const int64_t rows = series * 42;
  const Tensor x = filled({rows, cols}), r = filled({rows, cols}), dy = filled({rows, cols});
  const Tensor sum = filled({rows, cols}), y = filled({rows, cols});
  const auto norm = std::make_shared<Norm>(cols);
  const auto n = static_cast<double>(rows * cols);
  std::vector<int32_t> places;
  for (int64_t i = 0; i < rows; ++i) places.push_back(static_cast<int32_t>(i % 42));
  const Tensor positions = device_copy(places);
  const auto keys = std::make_shared<std::vector<uint64_t>>(static_cast<size_t>(series), 7);
  for (const double p : {0.0, 0.3}) {
    const std::string with = p > 0.0 ? ", dropout .3" : "";
    const auto site = [=] { return DropoutSite{p, *keys, positions, 42, 0}; };
    Case forward{fmt::format("batch_norm C{} forward (5 passes){}", cols, with), bytes(n, 5.0), {}, {}};
    forward.run = [=] {
      Tape tape(/*recording=*/false);
      const DropoutSite s = site();
      batch_norm(tape, tape.input(x), tape.input(r), norm->parameters(), {}, &s);
    };
    if (p == 0.0) forward.plain = [=] { plain_batch_norm(x, r, sum, y); };
    cases.push_back(forward);
    cases.push_back({fmt::format("batch_norm C{} fwd+bwd (11 passes){}", cols, with),
                     bytes(n, 11.0),
                     [=] {
                       Tape tape;
                       const DropoutSite s = site();
                       backward_from(
                           tape, batch_norm(tape, tape.input(x, true), tape.input(r, true), norm->parameters(), {}, &s),
                           dy);
                     },
                     {}});
  }
}

struct Sizes {
  int64_t batch, heads, tokens, width;
  int64_t columns() const { return heads * width; }
};

// Forward, one row of scores at a time.
void plain_attention(const Sizes& n, const Tensor& qkv, const Tensor& previous, const Tensor& scores,
                     const Tensor& out) {
  const int64_t stride = 3 * n.columns();
  parallel_for(n.batch * n.heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> p(static_cast<size_t>(n.tokens));
    for (int64_t row = begin * n.tokens; row < end * n.tokens; ++row) {
      const int64_t i = row % n.tokens, head = row / n.tokens % n.heads, b = row / n.tokens / n.heads;
      const float* q = qkv.data<float>() + (b * n.tokens + i) * stride + head * n.width;
      const float* k = qkv.data<float>() + b * n.tokens * stride + n.columns() + head * n.width;
      float* s = scores.data<float>() + row * n.tokens;
      float largest = -1e30F, sum = 0.0F;
      for (int64_t j = 0; j < n.tokens; ++j) {
        float dot = 0.0F;
        for (int64_t d = 0; d < n.width; ++d) dot += q[d] * k[j * stride + d];
        s[j] = 0.5F * dot + previous.data<float>()[row * n.tokens + j];
        largest = std::max(largest, s[j]);
      }
      for (int64_t j = 0; j < n.tokens; ++j) sum += p[static_cast<size_t>(j)] = std::exp(s[j] - largest);
      float* o = out.data<float>() + (b * n.tokens + i) * n.columns() + head * n.width;
      for (int64_t d = 0; d < n.width; ++d) {
        float dot = 0.0F;
        for (int64_t j = 0; j < n.tokens; ++j) {
          dot += p[static_cast<size_t>(j)] * k[j * stride + n.columns() + d];
        }
        o[d] = dot / sum;
      }
    }
  });
}

void add_attention(Cases& cases, const Sizes& n) {
  const Tensor qkv = filled({n.batch * n.tokens, 3 * n.columns()}), dout = filled({n.batch * n.tokens, n.columns()});
  const Shape pairs = {n.batch, n.heads, n.tokens, n.tokens};
  const Tensor previous = filled(pairs), dscores = filled(pairs), scores = filled(pairs);
  const Tensor out = filled({n.batch * n.tokens, n.columns()});
  const double weights = static_cast<double>(previous.numel()), rows = static_cast<double>(out.numel());
  const auto layer = [=](Tape& tape, bool gradient) {
    const Var all = tape.input(qkv, gradient);
    const auto parts = tape.split_last(all, {n.columns(), n.columns(), n.columns()});
    return dense_attention(tape, parts[0], parts[1], parts[2], tape.input(previous, gradient), {n.batch, n.heads});
  };
  const std::string size = fmt::format("B{} H{} T{} D{}", n.batch, n.heads, n.tokens, n.width);
  cases.push_back({"dense_attention " + size + " forward", bytes(2.0 * weights + 4.0 * rows, 1.0),
                   [=] {
                     Tape tape(/*recording=*/false);
                     layer(tape, false);
                   },
                   [=] { plain_attention(n, qkv, previous, scores, out); }});
  cases.push_back({"dense_attention " + size + " fwd+bwd",
                   bytes(5.0 * weights + 11.0 * rows, 1.0),
                   [=] {
                     Tape tape;
                     const DenseAttentionResult a = layer(tape, true);
                     const Var root = tape.variable(Tensor::zeros({1}), {a.out});
                     tape.record(root, {}, [=] {
                       a.out.adopt_gradient(dout);
                       a.scores.adopt_gradient(dscores);
                     });
                     tape.backward(root);
                   },
                   {}});
}

int run(int64_t series, int repeats, const std::string& part) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const Ceilings ceilings;
  fmt::print("{} threads; triad {:.1f} GB/s; {} series\n", thread_count(), ceilings.triad_bytes_per_second() * 1e-9,
             series);
  Cases cases;
  add_windows(cases, series);
  add_losses(cases, series);
  add_norms(cases, series, 16);
  add_norms(cases, series, 128);
  add_attention(cases, {series, 4, 42, 4});
  add_attention(cases, {series / 4, 16, 42, 8});
  add_attention(cases, {series / 4, 16, 64, 8});
  for (const auto& c : cases) {
    if (c.name.find(part) != std::string::npos) report(c, ceilings, repeats);
  }
  return 0;
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  return farsight::run(argc > 1 ? std::atoll(argv[1]) : 896, argc > 2 ? std::atoi(argv[2]) : 9,
                       argc > 3 ? argv[3] : "");
}
