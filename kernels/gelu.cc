// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu.h"

#include <utility>

#include "kernels/gelu_cpu.h"

namespace farsight {

Var gelu(Tape& tape, const Var& x) {
  const Tensor in = x.value();
  Tensor y = Tensor::empty(in.shape());
  gelu_forward_cpu(in.data<float>(), in.row_stride(), in.rows(), in.cols(), y.data<float>());
  const Var out = tape.variable(std::move(y), {x});
  tape.record(out, {}, [x, out, in] {
    const Gradient dx = x.begin_gradient();
    gelu_backward_cpu(in.data<float>(), in.row_stride(), out.grad().data<float>(), in.rows(), in.cols(),
                      dx.beta != 0.0F, dx.tensor.data<float>(), dx.tensor.row_stride());
  });
  return out;
}

}  // namespace farsight
