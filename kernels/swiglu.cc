// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.h"

#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/swiglu_cpu.h"

namespace farsight {
namespace {

void forward(const Tensor& gate_up, const Tensor& y) {
  if (gate_up.device() == Device::cpu) {
    swiglu_forward_cpu(gate_up.data<float>(), gate_up.row_stride(), y.rows(), y.cols(), y.data<float>());
    return;
  }
  const CudaSwigluForward a{gate_up.dtype(), y.rows(), y.cols(), gate_up.raw(), gate_up.row_stride(), y.raw()};
  cuda_device().run("swiglu", &CudaBackend::swiglu_forward, a);
}

void backward(const Tensor& gate_up, const Tensor& dy, const Gradient& d) {
  const bool add = d.beta != 0.0F;
  if (gate_up.device() == Device::cpu) {
    swiglu_backward_cpu(gate_up.data<float>(), gate_up.row_stride(), dy.data<float>(), dy.rows(), dy.cols(), add,
                        d.tensor.data<float>(), d.tensor.row_stride());
    return;
  }
  const CudaSwigluBackward a{
      gate_up.dtype(),       dy.rows(), dy.cols(), gate_up.raw(), gate_up.row_stride(), dy.raw(), d.tensor.raw(),
      d.tensor.row_stride(), add};
  cuda_device().run("swiglu backward", &CudaBackend::swiglu_backward, a);
}

}  // namespace

Var swiglu(Tape& tape, const Var& gate_up) {
  const Tensor in = gate_up.value();
  if (in.cols() % 2 != 0) fail(ErrorKind::internal, "swiglu: gate_up has shape {}", to_string(in.shape()));
  const int64_t width = in.cols() / 2;
  Shape shape = in.shape();
  shape.back() = width;
  Tensor y = Tensor::empty(std::move(shape), in.dtype());
  forward(in, y);
  const Var out = tape.variable(std::move(y), {gate_up});
  tape.record(out, {}, [gate_up, out, in] { backward(in, out.grad(), gate_up.begin_gradient()); });
  return out;
}

}  // namespace farsight
