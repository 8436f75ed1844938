// SPDX-License-Identifier: Apache-2.0
#include "kernels/moving_average.h"

#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/moving_average_cpu.h"

namespace farsight {
namespace {

void on_device(const Tensor& from, const Tensor& to, int64_t kernel, bool backward, bool add) {
  const CudaMovingAverage a{from.dtype(),      from.rows(), from.cols(),     kernel,   from.raw(),
                            from.row_stride(), to.raw(),    to.row_stride(), backward, add};
  cuda_device().run("moving_average", &CudaBackend::moving_average, a);
}

void forward(const Tensor& x, int64_t kernel, const Tensor& y) {
  if (x.device() == Device::cpu) {
    moving_average_forward_cpu(x.data<float>(), x.row_stride(), x.rows(), x.cols(), kernel, y.data<float>());
  } else {
    on_device(x, y, kernel, /*backward=*/false, /*add=*/false);
  }
}

void backward(const Tensor& dy, int64_t kernel, const Gradient& dx) {
  const bool add = dx.beta != 0.0F;
  if (dy.device() == Device::cpu) {
    moving_average_backward_cpu(dy.data<float>(), dy.rows(), dy.cols(), kernel, add, dx.tensor.data<float>(),
                                dx.tensor.row_stride());
  } else {
    on_device(dy, dx.tensor, kernel, /*backward=*/true, add);
  }
}

}  // namespace

Var moving_average(Tape& tape, const Var& x, int64_t kernel) {
  if (kernel < 1 || kernel % 2 == 0) fail(ErrorKind::internal, "moving_average: kernel {} is not odd", kernel);
  const Tensor& in = x.value();
  Tensor y = Tensor::empty(in.shape(), in.dtype());
  if (in.numel() > 0) forward(in, kernel, y);
  const Var out = tape.variable(std::move(y), {x});
  tape.record(out, {}, [x, out, kernel] {
    const Gradient dx = x.begin_gradient();
    if (out.grad().numel() > 0) backward(out.grad(), kernel, dx);
  });
  return out;
}

}  // namespace farsight
