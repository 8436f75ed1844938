// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/column_sums.h"
#include "kernels/error.h"
#include "kernels/linear_cpu.h"
#include "kernels/matmul.h"

namespace farsight {
namespace {

// Parameters that lie side by side in the slabs, seen as one block.
struct Block {
  std::vector<Parameter*> parts;
  int64_t elements = 0;

  const float* value() const { return parts.front()->value.data<float>(); }
  float* gradient() const { return parts.front()->grad.data<float>(); }

  // One beta for all parts; those that nothing has written yet are zeroed when others have been.
  float begin_accumulate() const {
    const bool any = std::any_of(parts.begin(), parts.end(), [](const Parameter* p) { return p->grad_written; });
    for (auto* p : parts) {
      if (any) p->zero_if_fresh();
      p->grad_written = true;
    }
    return any ? 1.0F : 0.0F;
  }
};

Block make_block(std::span<Parameter* const> parts) {
  Block block{{parts.begin(), parts.end()}, 0};
  for (const auto* p : parts) {
    if (p->value.data<float>() != block.value() + block.elements ||
        p->grad.data<float>() != block.gradient() + block.elements) {
      fail(ErrorKind::internal, "linear_group: parameter '{}' does not start where the one before it ends", p->name);
    }
    block.elements += p->value.numel();
  }
  return block;
}

int64_t output_width(const Var& x, std::span<Parameter* const> weights) {
  if (weights.empty()) fail(ErrorKind::internal, "linear: no weight");
  int64_t out = 0;
  for (const auto* w : weights) {
    if (w->value.rank() != 2 || w->value.dim(1) != x.shape().back()) {
      fail(ErrorKind::internal, "linear: weight '{}' has shape {}, x has {}", w->name, to_string(w->value.shape()),
           to_string(x.shape()));
    }
    out += w->value.dim(0);
  }
  return out;
}

void input_gradient(const Var& x, const Tensor& dy, const Block& weight) {
  const Gradient dx = x.begin_gradient();
  const int64_t in = x.shape().back();
  matmul(Transpose::no, Transpose::no, dy.rows(), in, dy.cols(), 1.0F, dy.data<float>(), dy.row_stride(),
         weight.value(), in, dx.beta, dx.tensor.data<float>(), dx.tensor.row_stride());
}

void weight_gradient(const Tensor& x, const Tensor& dy, const Block& weight) {
  if (dy.rows() == 0) return;
  matmul(Transpose::yes, Transpose::no, dy.cols(), x.cols(), dy.rows(), 1.0F, dy.data<float>(), dy.row_stride(),
         x.data<float>(), x.row_stride(), weight.begin_accumulate(), weight.gradient(), x.cols());
}

void bias_gradient(const Tensor& dy, const Block& bias) {
  if (dy.rows() == 0) return;
  const bool add = bias.begin_accumulate() != 0.0F;
  column_sums(dy.data<float>(), dy.rows(), dy.cols(), dy.row_stride(), add, bias.gradient());
}

}  // namespace

Var linear_group(Tape& tape, const Var& x, std::span<Parameter* const> weights, std::span<Parameter* const> biases) {
  const Tensor input = x.value();
  const int64_t out_width = output_width(x, weights);
  const Block weight = make_block(weights);
  const Block bias = biases.empty() ? Block{} : make_block(biases);
  if (!biases.empty() && bias.elements != out_width) {
    fail(ErrorKind::internal, "linear: biases have {} elements, the weights {} rows", bias.elements, out_width);
  }
  Shape shape = input.shape();
  shape.back() = out_width;
  Tensor y = Tensor::empty(std::move(shape));
  matmul(Transpose::no, Transpose::yes, input.rows(), out_width, input.cols(), 1.0F, input.data<float>(),
         input.row_stride(), weight.value(), input.cols(), 0.0F, y.data<float>(), out_width);
  if (!biases.empty()) add_bias_cpu(bias.value(), input.rows(), out_width, y.data<float>());

  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  std::vector<Parameter*> used = weight.parts;
  used.insert(used.end(), bias.parts.begin(), bias.parts.end());
  tape.record(out, std::move(used), [x, out, input, weight, bias] {
    const Tensor& dy = out.grad();
    // The weight first: its reduction over the ranks can start while dx is computed.
    weight_gradient(input, dy, weight);
    if (!bias.parts.empty()) bias_gradient(dy, bias);
    if (x.requires_grad()) input_gradient(x, dy, weight);
  });
  return out;
}

Var linear(Tape& tape, const Var& x, Parameter& weight, Parameter* bias) {
  Parameter* const weights[] = {&weight};
  Parameter* const biases[] = {bias};
  return linear_group(tape, x, weights, std::span(biases).first(bias == nullptr ? 0 : 1));
}

}  // namespace farsight
