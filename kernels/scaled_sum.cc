// SPDX-License-Identifier: Apache-2.0
#include "kernels/scaled_sum.h"

#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/scaled_sum_cpu.h"

namespace farsight {
namespace {

// a may be undefined.
void run(const Tensor& a, const Tensor& b, float factor, const Tensor& y, bool add) {
  const int64_t a_stride = a.defined() ? a.row_stride() : 0;
  if (b.device() == Device::cpu) {
    scaled_sum_cpu({b.rows(), b.cols(), a.defined() ? a.data<float>() : nullptr, a_stride, b.data<float>(),
                    b.row_stride(), factor, y.data<float>(), y.row_stride(), add});
    return;
  }
  const CudaScaledSum s{b.dtype(),      b.rows(), b.cols(), a.raw(),        a_stride, b.raw(),
                        b.row_stride(), factor,   y.raw(),  y.row_stride(), add};
  cuda_device().run("scaled_sum", &CudaBackend::scaled_sum, s);
}

void pass_back(const Var& to, const Tensor& dy, float factor) {
  if (!to.requires_grad()) return;
  const Gradient d = to.begin_gradient();
  run({}, dy, factor, d.tensor, d.beta != 0.0F);
}

}  // namespace

Var scaled_sum(Tape& tape, const Var& a, const Var& b, float factor) {
  expect_together("scaled_sum", {&a.value(), &b.value()});
  expect_shape("scaled_sum", "b", b.value(), a.shape());
  Tensor y = Tensor::empty(a.shape(), a.value().dtype());
  run(a.value(), b.value(), factor, y, /*add=*/false);
  const Var out = tape.variable(std::move(y), {a, b});
  tape.record(out, {}, [a, b, out, factor] {
    pass_back(a, out.grad(), 1.0F);
    pass_back(b, out.grad(), factor);
  });
  return out;
}

}  // namespace farsight
