// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu_mlp.h"

#include <span>
#include <string>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "kernels/linear_products.h"
#include "kernels/matmul.h"

namespace farsight {
namespace {

LinearBlocks blocks_of(Parameter& weight, Parameter* bias, int64_t in) {
  Parameter* const weights[] = {&weight};
  Parameter* const biases[] = {bias};
  return {weights, std::span(biases).first(bias == nullptr ? 0 : 1), in};
}

Tensor rows_of(const Tensor& x, int64_t columns) {
  Shape shape = x.shape();
  shape.back() = columns;
  return Tensor::empty(std::move(shape), x.dtype());
}

// Why GELU cannot be part of the products; null if it can. What backward reads lies as what forward reads: parameters
// begin at multiples of 16 elements wherever they are, and activations are contiguous.
const char* refusal(const Tensor& x, const LinearBlocks& up, const LinearBlocks& down) {
  if (x.dtype() != DType::bf16) return "f32";
  if (x.cols() % 8 != 0 || up.out() % 8 != 0 || down.out() % 8 != 0) return "a width is no multiple of 8";
  if (!takes_gelu(x)) return "rows do not begin at multiples of 16 bytes";
  if (!takes_gelu(up.weight.value()) || !takes_gelu(down.weight.value())) return "weights begin between 16 bytes";
  // Tensors like those that will be; nothing is written to them.
  const Tensor before = rows_of(x, up.out()), hidden = rows_of(x, up.out()), y = rows_of(x, down.out());
  const bool available = has_matmul_gelu(Transpose::no, Transpose::yes, x, up.weight.value(),
                                         up.bias.empty() ? Tensor() : up.bias.value(), before, hidden) &&
                         has_matmul_gelu_gradient(Transpose::no, Transpose::no, y, down.weight.value(), before, hidden);
  return available ? nullptr : "the library has no such product";
}

bool fused(const Tensor& x, const LinearBlocks& up, const LinearBlocks& down) {
  if (x.device() == Device::cpu) return false;
  const char* why = refusal(x, up, down);
  cuda_device().note("gelu", why == nullptr
                                 ? "part of the matrix products"
                                 : "own kernels (not part of the matrix products: " + std::string(why) + ")");
  return why == nullptr;
}

// Computes `hidden`; the result is what GELU was applied to. Without a tape nobody reads that, but a product that did
// not store it could sum in another order, and a repeated forward pass would not have the bits of the first.
Var up_product(Tape& tape, const Var& x, const LinearBlocks& up, const Tensor& hidden) {
  const Tensor before = Tensor::empty(hidden.shape(), hidden.dtype());
  matmul_gelu(Transpose::no, Transpose::yes, x.value(), up.weight.value(), up.bias.empty() ? Tensor() : up.bias.value(),
              before, hidden);
  const Var out = tape.variable(before, {x}, /*uses_parameters=*/true);
  record_linear(tape, x, out, up);
  return out;
}

// An operation from `before` to the result, as far as the tape knows.
Var down_product(Tape& tape, const Var& before, const LinearBlocks& down, const Tensor& hidden) {
  Tensor y = rows_of(hidden, down.out());
  linear_forward(hidden, down, y);
  const Var out = tape.variable(std::move(y), {before}, /*uses_parameters=*/true);
  tape.record(out, down.parameters(), [before, out, hidden, down] {
    const Tensor& dy = out.grad();
    linear_weight_gradient(hidden, dy, down.weight);
    bias_gradient(dy, down.bias);
    // Nothing else uses `before`: its gradient is written, not added to.
    matmul_gelu_gradient(Transpose::no, Transpose::no, dy, down.weight.value(), before.value(),
                         before.begin_gradient().tensor);
  });
  return out;
}

}  // namespace

Var gelu_mlp(Tape& tape, const Var& x, const GeluMlp& mlp) {
  const LinearBlocks up = blocks_of(mlp.up, mlp.up_bias, x.value().cols());
  const LinearBlocks down = blocks_of(mlp.down, mlp.down_bias, up.out());
  if (!fused(x.value(), up, down)) {
    const Var hidden = gelu(tape, linear(tape, x, mlp.up, mlp.up_bias));
    return linear(tape, hidden, mlp.down, mlp.down_bias);
  }
  const Tensor hidden = rows_of(x.value(), up.out());
  const Var before = up_product(tape, x, up, hidden);
  if (!tape.recording()) before.drop_value();
  return down_product(tape, before, down, hidden);
}

}  // namespace farsight
