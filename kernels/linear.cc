// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include <utility>

#include "kernels/linear_products.h"

namespace farsight {

Var linear_group(Tape& tape, const Var& x, std::span<Parameter* const> weights, std::span<Parameter* const> biases) {
  const Tensor input = x.value();
  const LinearBlocks blocks(weights, biases, input.cols());
  Shape shape = input.shape();
  shape.back() = blocks.out();
  Tensor y = Tensor::empty(std::move(shape), input.dtype());
  linear_forward(input, blocks, y);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  record_linear(tape, x, out, blocks);
  return out;
}

void record_linear(Tape& tape, const Var& x, const Var& out, const LinearBlocks& blocks) {
  tape.record(out, blocks.parameters(), [x, out, input = x.value(), blocks] {
    const Tensor& dy = out.grad();
    // The weight first: its reduction over the ranks can start while dx is computed.
    linear_weight_gradient(input, dy, blocks.weight);
    bias_gradient(dy, blocks.bias);
    if (!x.requires_grad()) return;
    const Gradient dx = x.begin_gradient();
    linear_input_gradient(dy, blocks.weight, dx.beta, dx.tensor);
  });
}

Var linear(Tape& tape, const Var& x, Parameter& weight, Parameter* bias) {
  Parameter* const weights[] = {&weight};
  Parameter* const biases[] = {bias};
  return linear_group(tape, x, weights, std::span(biases).first(bias == nullptr ? 0 : 1));
}

}  // namespace farsight
