// SPDX-License-Identifier: Apache-2.0
// Dense operations against the ceilings of this machine, measured in the same run and interleaved with them: bandwidth
// as a fraction of the triad a = b + s c (plain stores, 12 bytes counted per element), products as a fraction of an FMA
// loop. Figures are medians; the spread is that of the quartiles.
//
//   ops_bench [rows] [width] [hidden] [vocabulary] [repeats]      (default 1024 768 3072 50257 9)
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/parallel_for.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/swiglu.h"
#include "kernels/totals.h"
#include "tests/bench/ceilings.h"

namespace farsight {
namespace {

double seconds_of(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Spread {
  double median, low, high;
};

Spread spread_of(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return {v[v.size() / 2], v[v.size() / 4], v[v.size() * 3 / 4]};
}

enum class Ceiling { triad, fma };

struct Case {
  std::string name;
  Ceiling ceiling;
  double work;  // bytes or operations
  std::function<void()> run;
};

void report(const Case& c, const Ceilings& ceilings, int repeats) {
  c.run();
  std::vector<double> times, ratios;
  for (int i = 0; i < repeats; ++i) {
    const double roof =
        c.ceiling == Ceiling::triad ? ceilings.triad_bytes_per_second() : ceilings.fma_flops_per_second();
    const double t = seconds_of(c.run);
    times.push_back(t);
    ratios.push_back(c.work / t / roof);
  }
  const Spread t = spread_of(times), r = spread_of(ratios);
  fmt::print("{:34} {:9.3f} ms  {:8.2f} {}  {:5.2f} of {} [{:.2f}, {:.2f}]\n", c.name, 1e3 * t.median,
             c.work / t.median * 1e-9, c.ceiling == Ceiling::triad ? "GB/s   " : "GFLOP/s", r.median,
             c.ceiling == Ceiling::triad ? "triad" : "peak", r.low, r.high);
}

// Tensors and parameters of one transformer block's dense part.
struct Model {
  int64_t rows, width, hidden, vocabulary;
  ParameterStore store;
  std::vector<float> first, second;
  std::vector<int32_t> tokens, labels;
  std::vector<uint64_t> keys = {7};

  Model(int64_t n, int64_t c, int64_t f, int64_t v) : rows(n), width(c), hidden(f), vocabulary(v) {
    const Init init{Init::Kind::normal, 0.02};
    store.add("norm", {c}, init);
    store.add("up", {f, c}, init);
    store.add("up_bias", {f}, init);
    store.add("table", {v, c}, init);
    store.allocate();
    store.initialize(1);
    first.assign(static_cast<size_t>(store.slab_elements()), 0.0F);
    second = first;
    for (int64_t i = 0; i < n; ++i) {
      tokens.push_back(static_cast<int32_t>(i * 7919 % v));
      positions_.push_back(static_cast<int32_t>(i));
    }
    labels = tokens;
  }
  Parameter& get(const char* name) { return *store.find(name); }
  DropoutSite site(double p) const { return {p, keys, positions(), rows, 0}; }
  Tensor positions() const { return device_copy(positions_); }

 private:
  std::vector<int32_t> positions_;
};

Tensor filled(int64_t rows, int64_t cols) {
  const Tensor t = Tensor::empty({rows, cols});
  float* p = t.data<float>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i] = static_cast<float>(i * 2654435761 % 1024) / 512.0F - 1.0F;
  return t;
}

// Hands `y` a gradient without arithmetic and runs the tape.
void backward_from(Tape& tape, const Var& y, const Tensor& dy) {
  const Var root = tape.variable(Tensor::zeros({1}), {y});
  tape.record(root, {}, [y, dy] { y.adopt_gradient(dy); });
  tape.backward(root);
}

double bytes(int64_t rows, int64_t cols, int64_t passes) { return 4.0 * static_cast<double>(rows * cols * passes); }

using Cases = std::vector<Case>;

void add_rowwise(Cases& cases, Model& m, const Tensor& x, const Tensor& r, const Tensor& wide, const Tensor& dy_wide) {
  const auto forward = [](const auto& op) {
    return [op] {
      Tape tape(/*recording=*/false);
      op(tape);
    };
  };
  cases.push_back({"norm_residual forward (4 passes)", Ceiling::triad, bytes(m.rows, m.width, 4), forward([&](Tape& t) {
                     norm_residual(t, t.input(x), t.input(r), m.get("norm"), nullptr, NormKind::rms, 1e-5F);
                   })});
  cases.push_back({"  with dropout 0.1", Ceiling::triad, bytes(m.rows, m.width, 4), forward([&](Tape& t) {
                     const DropoutSite site = m.site(0.1);
                     norm_residual(t, t.input(x), t.input(r), m.get("norm"), nullptr, NormKind::rms, 1e-5F, &site);
                   })});
  cases.push_back({"norm_residual fwd+bwd (9 passes)", Ceiling::triad, bytes(m.rows, m.width, 9), [&] {
                     Tape t;
                     const auto out = norm_residual(t, t.input(x, true), t.input(r, true), m.get("norm"), nullptr,
                                                    NormKind::rms, 1e-5F);
                     const Var root = t.variable(Tensor::zeros({1}), {out.normed});
                     const Tensor d1 = Tensor::empty(x.shape()), d2 = Tensor::empty(x.shape());
                     t.record(root, {}, [&] {
                       out.normed.adopt_gradient(r);
                       out.residual.adopt_gradient(x);
                     });
                     t.backward(root);
                   }});
  cases.push_back({"swiglu forward (3 passes)", Ceiling::triad, bytes(m.rows, m.hidden / 2, 3),
                   forward([&](Tape& t) { swiglu(t, t.input(wide)); })});
  cases.push_back({"gelu forward (2 passes)", Ceiling::triad, bytes(m.rows, m.hidden, 2),
                   forward([&](Tape& t) { gelu(t, t.input(wide)); })});
  cases.push_back({"gelu fwd+bwd (5 passes)", Ceiling::triad, bytes(m.rows, m.hidden, 5), [&] {
                     Tape t;
                     backward_from(t, gelu(t, t.input(wide, true)), dy_wide);
                   }});
}

void add_tables(Cases& cases, Model& m, const Tensor& x, const Tensor& dy, const RopeTable& angles) {
  cases.push_back({"rope of 2/3 of the rows' columns", Ceiling::triad, bytes(m.rows, m.width, 2), [&] {
                     Tape t(/*recording=*/false);
                     rope(t, t.input(x), angles);
                   }});
  cases.push_back({"embedding forward (2 passes)", Ceiling::triad, bytes(m.rows, m.width, 2), [&] {
                     Tape t(/*recording=*/false);
                     embedding(t, m.tokens, m.get("table"));
                   }});
  cases.push_back({"embedding fwd+bwd (5 passes)", Ceiling::triad, bytes(m.rows, m.width, 5), [&] {
                     Tape t;
                     backward_from(t, embedding(t, m.tokens, m.get("table")), dy);
                   }});
}

void add_optimizer(Cases& cases, Model& m) {
  const auto n = static_cast<double>(m.store.slab_elements());
  cases.push_back({"adamw (28 bytes an element)", Ceiling::triad, 28.0 * n, [&] {
                     const OptimizerRange all[] = {{0, m.store.slab_elements(), 1.0F, true}};
                     AdamWStep step;
                     step.rate = 1e-6;
                     adamw(m.store.values().span<float>(), m.store.gradients().span<float>(), m.first, m.second, all,
                           step);
                   }});
  cases.push_back({"add_squares (4 bytes)", Ceiling::triad, 4.0 * n, [&] {
                     const Tensor total = Tensor::zeros({1}, DType::f64);
                     add_squares(m.store.gradients(), 1.0, total);
                   }});
}

void add_products(Cases& cases, Model& m, const Tensor& x, const Tensor& dy_wide) {
  const double product = 2.0 * static_cast<double>(m.rows * m.width * m.hidden);
  cases.push_back({"linear + bias forward", Ceiling::fma, product, [&] {
                     Tape t(/*recording=*/false);
                     linear(t, t.input(x), m.get("up"), &m.get("up_bias"));
                   }});
  cases.push_back({"linear + bias fwd+bwd", Ceiling::fma, 3.0 * product, [&] {
                     Tape t;
                     backward_from(t, linear(t, t.input(x, true), m.get("up"), &m.get("up_bias")), dy_wide);
                   }});
  cases.push_back(
      {"linear_cross_entropy fwd+bwd", Ceiling::fma, 6.0 * static_cast<double>(m.rows * m.width * m.vocabulary), [&] {
         Tape t;
         t.backward(linear_cross_entropy(t, t.input(x, true), m.get("table"), m.labels, {}).loss);
       }});
}

int run(const std::vector<int64_t>& sizes) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Model m(sizes[0], sizes[1], sizes[2], sizes[3]);
  const Ceilings ceilings;
  fmt::print("{} threads, {}; triad {:.1f} GB/s, FMA {:.0f} GFLOP/s; rows {} width {} hidden {} vocabulary {}\n",
             thread_count(), matmul_library(), ceilings.triad_bytes_per_second() * 1e-9,
             ceilings.fma_flops_per_second() * 1e-9, m.rows, m.width, m.hidden, m.vocabulary);
  const Tensor x = filled(m.rows, m.width), r = filled(m.rows, m.width), wide = filled(m.rows, m.hidden);
  const Tensor dy_wide = filled(m.rows, m.hidden);
  const RopeTable angles = rope_table(m.positions(), 10000.0, 64);
  Cases cases;
  add_rowwise(cases, m, x, r, wide, dy_wide);
  add_tables(cases, m, x, r, angles);
  add_optimizer(cases, m);
  add_products(cases, m, x, dy_wide);
  for (const auto& c : cases) report(c, ceilings, static_cast<int>(sizes[4]));
  return 0;
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  std::vector<int64_t> sizes = {1024, 768, 3072, 50257, 9};
  for (int i = 1; i < argc && i <= 5; ++i) sizes[static_cast<size_t>(i - 1)] = std::atoll(argv[i]);
  return farsight::run(sizes);
}
