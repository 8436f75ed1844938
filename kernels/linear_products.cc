// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_products.h"

#include <algorithm>

#include "kernels/column_sums.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/linear_cpu.h"
#include "kernels/matmul.h"

namespace farsight {

ParameterBlock::ParameterBlock(std::span<Parameter* const> parts) : parts_(parts.begin(), parts.end()) {
  for (const auto* p : parts_) {
    if (p->offset != parts_.front()->offset + elements_ || p->unit != parts_.front()->unit) {
      fail(ErrorKind::internal, "linear: parameter '{}' does not start where the one before it ends", p->name);
    }
    elements_ += p->numel();
  }
}

int64_t ParameterBlock::rows() const {
  int64_t rows = 0;
  for (const auto* p : parts_) rows += p->shape().front();
  return rows;
}

Shape ParameterBlock::shape() const {
  Shape shape = parts_.front()->shape();
  shape.front() = rows();
  return shape;
}

float ParameterBlock::begin_accumulate() const {
  const bool any = std::any_of(parts_.begin(), parts_.end(), [](const Parameter* p) { return p->grad_written; });
  for (auto* p : parts_) {
    if (any) p->zero_if_fresh();
    p->grad_written = true;
  }
  return any ? 1.0F : 0.0F;
}

LinearBlocks::LinearBlocks(std::span<Parameter* const> weights, std::span<Parameter* const> biases, int64_t in)
    : weight(weights), bias(biases) {
  if (weights.empty()) fail(ErrorKind::internal, "linear: no weight");
  for (const auto* w : weights) {
    if (w->shape().size() != 2 || w->shape()[1] != in) {
      fail(ErrorKind::internal, "linear: weight '{}' has shape {}, x has {} columns", w->name, to_string(w->shape()),
           in);
    }
  }
  if (!biases.empty() && bias.elements() != weight.rows()) {
    fail(ErrorKind::internal, "linear: biases have {} elements, the weights {} rows", bias.elements(), weight.rows());
  }
}

std::vector<Parameter*> LinearBlocks::parameters() const {
  std::vector<Parameter*> used = weight.parts();
  used.insert(used.end(), bias.parts().begin(), bias.parts().end());
  return used;
}

void linear_forward(const Tensor& x, const LinearBlocks& blocks, const Tensor& y) {
  matmul(Transpose::no, Transpose::yes, x, blocks.weight.value(), 0.0F, y,
         blocks.bias.empty() ? Tensor() : blocks.bias.value());
}

void add_bias(const ParameterBlock& bias, const Tensor& y) {
  if (bias.empty()) return;
  const Tensor b = bias.value();
  if (y.device() == Device::cpu) {
    add_bias_cpu(b.data<float>(), y.rows(), y.cols(), y.data<float>());
    return;
  }
  // The bias as a matrix whose rows are all the same.
  const CudaRowsCopy a{y.rows(), y.cols(), b.raw(), 0, b.dtype(), y.raw(), y.row_stride(), y.dtype(), /*add=*/true};
  cuda_device().run("add_bias", &CudaBackend::copy_rows, a);
}

void linear_input_gradient(const Tensor& dy, const ParameterBlock& weight, float beta, const Tensor& dx) {
  matmul(Transpose::no, Transpose::no, dy, weight.value(), beta, dx);
}

void linear_weight_gradient(const Tensor& x, const Tensor& dy, const ParameterBlock& weight) {
  if (dy.rows() == 0) return;
  const float beta = weight.begin_accumulate();
  matmul(Transpose::yes, Transpose::no, dy, x, beta, weight.gradient());
}

void bias_gradient(const Tensor& dy, const ParameterBlock& bias) {
  if (bias.empty() || dy.rows() == 0) return;
  const bool add = bias.begin_accumulate() != 0.0F;
  column_sums(dy, add, bias.gradient());
}

}  // namespace farsight
