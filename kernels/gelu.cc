// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu.h"

#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/gelu_cpu.h"

namespace farsight {
namespace {

void forward(const Tensor& x, const Tensor& y) {
  if (x.device() == Device::cpu) {
    gelu_forward_cpu(x.data<float>(), x.row_stride(), x.rows(), x.cols(), y.data<float>());
    return;
  }
  const CudaGeluForward a{x.dtype(), x.rows(), x.cols(), x.raw(), x.row_stride(), y.raw()};
  cuda_device().run("gelu", &CudaBackend::gelu_forward, a);
}

void backward(const Tensor& x, const Tensor& dy, const Gradient& dx) {
  const bool add = dx.beta != 0.0F;
  if (x.device() == Device::cpu) {
    gelu_backward_cpu(x.data<float>(), x.row_stride(), dy.data<float>(), x.rows(), x.cols(), add,
                      dx.tensor.data<float>(), dx.tensor.row_stride());
    return;
  }
  const CudaGeluBackward a{
      x.dtype(), x.rows(), x.cols(), x.raw(), x.row_stride(), dy.raw(), dx.tensor.raw(), dx.tensor.row_stride(), add};
  cuda_device().run("gelu backward", &CudaBackend::gelu_backward, a);
}

}  // namespace

Var gelu(Tape& tape, const Var& x) {
  const Tensor in = x.value();
  Tensor y = Tensor::empty(in.shape(), in.dtype());
  forward(in, y);
  const Var out = tape.variable(std::move(y), {x});
  tape.record(out, {}, [x, out, in] { backward(in, out.grad(), x.begin_gradient()); });
  return out;
}

}  // namespace farsight
