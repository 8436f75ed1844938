// SPDX-License-Identifier: Apache-2.0
// Operations against fp64 oracles: forward values, and gradients by central differences of the oracle. Every test that
// uses OnEveryTarget runs once per instruction set that this machine has, and, where a CUDA plugin can be used (ctest
// names the emulated one), on the device in fp32 and in bf16.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "kernels/bfloat16.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/parallel_for.h"
#include "kernels/rows.h"
#include "kernels/tape.h"

namespace farsight::testing {

using Vec = std::vector<double>;

// Type of the tensors that tests make: bf16 on the target of this name.
inline DType& element() {
  static DType type = DType::f32;
  return type;
}

// What is left of a number in a tensor of this type.
inline double rounded(double x) {
  const auto value = static_cast<float>(x);
  return static_cast<double>(element() == DType::bf16 ? bf16_to_float(float_to_bf16(value)) : value);
}

// Random numbers that the elements represent exactly, so that oracle and operation see the same input.
inline Vec random_vec(uint64_t seed, int64_t n, double scale = 1.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, scale);
  Vec v(static_cast<size_t>(n));
  for (auto& x : v) x = rounded(normal(engine));
  return v;
}

// With margin > 0: a column view between `margin` columns of NaN on both sides.
inline Tensor to_tensor(const Vec& v, const Shape& shape, int64_t margin = 0) {
  Shape wide = shape;
  wide.back() += 2 * margin;
  const Tensor host = Tensor::empty(wide, DType::f32, MemoryTag::activation, Device::cpu);
  std::fill_n(host.data<float>(), host.numel(), std::numeric_limits<float>::quiet_NaN());
  Tensor t = host.narrow_last(margin, shape.back());
  for (int64_t r = 0; r < t.rows(); ++r) {
    for (int64_t c = 0; c < t.cols(); ++c) {
      t.data<float>()[r * t.row_stride() + c] = static_cast<float>(v[static_cast<size_t>(r * t.cols() + c)]);
    }
  }
  if (current_device() == Device::cpu) return t;
  const Tensor parent = Tensor::empty(wide, element());
  copy_rows(host.to(Device::cuda), parent);
  return parent.narrow_last(margin, shape.back());
}

inline Vec to_vec(const Tensor& tensor) {
  Tensor t = tensor;
  if (tensor.device() != Device::cpu) {
    const Tensor f = Tensor::empty(tensor.shape());
    copy_rows(tensor, f);
    t = f.to(Device::cpu);
  }
  Vec v;
  for (int64_t r = 0; r < t.rows(); ++r) {
    for (int64_t c = 0; c < t.cols(); ++c) v.push_back(static_cast<double>(t.data<float>()[r * t.row_stride() + c]));
  }
  return v;
}

inline void assign(const Tensor& t, const Vec& v) {
  const Tensor host = Tensor::empty(t.shape(), DType::f32, MemoryTag::activation, Device::cpu);
  for (size_t i = 0; i < v.size(); ++i) host.data<float>()[i] = static_cast<float>(v[i]);
  copy_rows(host.to(t.device()), t);
}

// A tensor of ids where the rows are.
inline Tensor ids(const std::vector<int32_t>& v) { return device_copy(v); }

// What operations take as data: f32, or flags, where the rows are.
inline Tensor to_data(const Vec& v, const Shape& shape) {
  return device_copy(std::vector<float>(v.begin(), v.end())).view(shape);
}
inline Tensor to_flags(const std::vector<uint8_t>& v, const Shape& shape) {
  const Tensor host = Tensor::empty(shape, DType::u8, MemoryTag::data, Device::cpu);
  std::copy(v.begin(), v.end(), host.data<uint8_t>());
  return host.to(current_device());
}

inline void allocate(ParameterStore& store) { store.allocate({.value_type = element()}); }

// A tolerance for elements of this type.
inline double relative(double tolerance) { return element() == DType::bf16 ? std::max(tolerance, 0.015) : tolerance; }

// Largest difference relative to the largest expected magnitude; NaN anywhere fails. Results in bf16 have 8 bits, and
// what is computed from them is off by a few times that.
inline void expect_close(const Vec& actual, const Vec& expected, double tolerance, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double scale = 1e-30;
  for (const double e : expected) scale = std::max(scale, std::abs(e));
  double worst = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]) / scale;
    worst = error <= worst ? worst : error;  // a NaN sticks
  }
  EXPECT_LE(worst, relative(tolerance)) << what;
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
  fill(value, static_cast<float>(total));
  const Var out = tape.variable(std::move(value), {}, any);
  tape.record(out, {}, [ys, ws, out] {
    const double seed = to_vec(out.grad()).front();
    for (size_t i = 0; i < ys.size(); ++i) {
      if (!ys[i].requires_grad()) continue;
      Vec scaled = ws[i];
      for (auto& w : scaled) w *= seed;
      const Gradient g = ys[i].begin_gradient();
      const Tensor from = to_tensor(scaled, g.tensor.shape());
      g.beta == 0.0F ? copy_rows(from, g.tensor) : add_rows(from, g.tensor);
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

// Targets that are no instruction sets.
inline constexpr int64_t kCudaF32 = -1, kCudaBf16 = -2;

inline std::vector<int64_t> targets() {
  std::vector<int64_t> list;
  for (const int64_t t : {HWY_AVX3, HWY_AVX2, HWY_NEON}) {
    if ((hwy::SupportedTargets() & t) != 0) list.push_back(t);
  }
  list.push_back(HWY_SCALAR);
  if (cuda_library().table != nullptr) list.insert(list.end(), {kCudaF32, kCudaBf16});
  return list;
}

class OnEveryTarget : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (GetParam() > 0) {
      choose(GetParam());
      return;
    }
    device_ = std::make_unique<CudaDevice>(0);
    scope_ = std::make_unique<CudaScope>(*device_);
    element() = GetParam() == kCudaBf16 ? DType::bf16 : DType::f32;
  }
  void TearDown() override {
    element() = DType::f32;
    scope_.reset();
    device_.reset();
    choose(0);
  }

 private:
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaScope> scope_;

  static void choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

inline std::string target_name(const ::testing::TestParamInfo<int64_t>& info) {
  if (info.param == kCudaF32) return "CUDA_F32";
  if (info.param == kCudaBf16) return "CUDA_BF16";
  return hwy::TargetName(info.param);
}

}  // namespace farsight::testing
