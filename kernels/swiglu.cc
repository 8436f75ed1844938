// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.h"

#include <utility>

#include "kernels/error.h"
#include "kernels/swiglu_cpu.h"

namespace farsight {

Var swiglu(Tape& tape, const Var& gate_up) {
  const Tensor in = gate_up.value();
  if (in.cols() % 2 != 0) fail(ErrorKind::internal, "swiglu: gate_up has shape {}", to_string(in.shape()));
  const int64_t width = in.cols() / 2;
  Shape shape = in.shape();
  shape.back() = width;
  Tensor y = Tensor::empty(std::move(shape));
  swiglu_forward_cpu(in.data<float>(), in.row_stride(), in.rows(), width, y.data<float>());
  const Var out = tape.variable(std::move(y), {gate_up});
  tape.record(out, {}, [gate_up, out, in, width] {
    const Gradient d = gate_up.begin_gradient();
    swiglu_backward_cpu(in.data<float>(), in.row_stride(), out.grad().data<float>(), in.rows(), width, d.beta != 0.0F,
                        d.tensor.data<float>(), d.tensor.row_stride());
  });
  return out;
}

}  // namespace farsight
