// SPDX-License-Identifier: Apache-2.0
// Operations against fp64 oracles: forward values, and gradients by central differences of the oracle. Every test that
// uses OnEveryTarget runs once per instruction set that this machine has.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "kernels/parallel_for.h"
#include "kernels/tape.h"

namespace farsight::testing {

using Vec = std::vector<double>;

// Random numbers that fp32 represents exactly, so that oracle and operation see the same input.
inline Vec random_vec(uint64_t seed, int64_t n, double scale = 1.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, scale);
  Vec v(static_cast<size_t>(n));
  for (auto& x : v) x = static_cast<double>(static_cast<float>(normal(engine)));
  return v;
}

// With margin > 0: a column view between `margin` columns of NaN on both sides.
inline Tensor to_tensor(const Vec& v, const Shape& shape, int64_t margin = 0) {
  Shape wide = shape;
  wide.back() += 2 * margin;
  const Tensor parent = Tensor::empty(wide);
  std::fill_n(parent.data<float>(), parent.numel(), std::numeric_limits<float>::quiet_NaN());
  Tensor t = parent.narrow_last(margin, shape.back());
  for (int64_t r = 0; r < t.rows(); ++r) {
    for (int64_t c = 0; c < t.cols(); ++c) {
      t.data<float>()[r * t.row_stride() + c] = static_cast<float>(v[static_cast<size_t>(r * t.cols() + c)]);
    }
  }
  return t;
}

inline Vec to_vec(const Tensor& t) {
  Vec v;
  for (int64_t r = 0; r < t.rows(); ++r) {
    for (int64_t c = 0; c < t.cols(); ++c) v.push_back(static_cast<double>(t.data<float>()[r * t.row_stride() + c]));
  }
  return v;
}

inline void assign(const Tensor& t, const Vec& v) {
  for (size_t i = 0; i < v.size(); ++i) t.data<float>()[i] = static_cast<float>(v[i]);
}

// Largest difference relative to the largest expected magnitude; NaN anywhere fails.
inline void expect_close(const Vec& actual, const Vec& expected, double tolerance, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double scale = 1e-30;
  for (const double e : expected) scale = std::max(scale, std::abs(e));
  double worst = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]) / scale;
    worst = error <= worst ? worst : error;  // a NaN sticks
  }
  EXPECT_LE(worst, tolerance) << what;
}

inline Vec numeric_gradient(const std::function<double(const Vec&)>& f, Vec at, double h = 1e-5) {
  Vec g(at.size());
  for (size_t i = 0; i < at.size(); ++i) {
    const double x = at[i];
    at[i] = x + h;
    const double up = f(at);
    at[i] = x - h;
    const double down = f(at);
    at[i] = x;
    g[i] = (up - down) / (2.0 * h);
  }
  return g;
}

inline double dot(const Vec& a, const Vec& b) {
  double s = 0.0;
  for (size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

// sum of y * w over all outputs as the root of a tape: hands each y the gradient w.
inline Var weighted_sum(Tape& tape, const std::vector<Var>& ys, const std::vector<Vec>& ws) {
  double total = 0.0;
  bool any = false;
  for (size_t i = 0; i < ys.size(); ++i) {
    total += dot(to_vec(ys[i].value()), ws[i]);
    any = any || ys[i].requires_grad();
  }
  Tensor value = Tensor::empty({1});
  *value.data<float>() = static_cast<float>(total);
  const Var out = tape.variable(std::move(value), {}, any);
  tape.record(out, {}, [ys, ws, out] {
    const float seed = *out.grad().data<float>();
    for (size_t i = 0; i < ys.size(); ++i) {
      if (!ys[i].requires_grad()) continue;
      const Gradient g = ys[i].begin_gradient();
      float* to = g.tensor.data<float>();
      for (int64_t r = 0, k = 0; r < g.tensor.rows(); ++r) {
        for (int64_t c = 0; c < g.tensor.cols(); ++c, ++k) {
          float& at = to[r * g.tensor.row_stride() + c];
          at = seed * static_cast<float>(ws[i][static_cast<size_t>(k)]) + (g.beta == 0.0F ? 0.0F : at);
        }
      }
    }
  });
  return out;
}

inline Parameter& add_parameter(ParameterStore& store, const char* name, Shape shape, bool adjoin = false) {
  return store.add(name, std::move(shape), Init{}, adjoin);
}

// What the body returns with this many threads.
template <class F>
auto with_threads(int threads, const F& body) {
  const int before = thread_count();
  set_thread_count(threads);
  auto result = body();
  set_thread_count(before);
  return result;
}

inline std::vector<int64_t> targets() {
  std::vector<int64_t> list;
  for (const int64_t t : {HWY_AVX3, HWY_AVX2, HWY_NEON}) {
    if ((hwy::SupportedTargets() & t) != 0) list.push_back(t);
  }
  list.push_back(HWY_SCALAR);
  return list;
}

class OnEveryTarget : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { choose(GetParam()); }
  void TearDown() override { choose(0); }

 private:
  static void choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

inline std::string target_name(const ::testing::TestParamInfo<int64_t>& info) { return hwy::TargetName(info.param); }

}  // namespace farsight::testing
