// SPDX-License-Identifier: Apache-2.0
// The products of a linear operation on raw tensors, for operations that exchange rows between ranks around them (see
// linear.h for the mathematics).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/parameter.h"
#include "kernels/tensor.h"

namespace farsight {

// Parameters that lie side by side in their slabs, seen as one matrix or vector. Values and gradients are looked up
// when they are used: a sharded parameter may lie somewhere else in backward than in forward.
class ParameterBlock {
 public:
  ParameterBlock() = default;
  // Throws Error{internal} unless each begins where the one before it ends.
  explicit ParameterBlock(std::span<Parameter* const> parts);

  bool empty() const { return parts_.empty(); }
  int64_t elements() const { return elements_; }
  int64_t rows() const;  // sum of the leading dimensions
  const std::vector<Parameter*>& parts() const { return parts_; }
  // All parts as one tensor: the leading dimension is the sum of theirs.
  Tensor value() const { return parts_.front()->value.spanning(shape()); }
  Tensor gradient() const { return parts_.front()->grad.spanning(shape()); }
  // One beta for all parts; those that nothing has written yet are zeroed when others have been.
  float begin_accumulate() const;

 private:
  Shape shape() const;

  std::vector<Parameter*> parts_;
  int64_t elements_ = 0;
};

// The weights and biases (may be empty) of one product; checks them against inputs of `in` columns.
struct LinearBlocks {
  ParameterBlock weight, bias;
  LinearBlocks(std::span<Parameter* const> weights, std::span<Parameter* const> biases, int64_t in);
  int64_t out() const { return weight.rows(); }
  std::vector<Parameter*> parameters() const;
};

// y [rows of x, out] = x W^T (+ b).
void linear_forward(const Tensor& x, const LinearBlocks& blocks, const Tensor& y);
// y += b on every row; nothing without a bias.
void add_bias(const ParameterBlock& bias, const Tensor& y);
// dx = dy W + beta dx.
void linear_input_gradient(const Tensor& dy, const ParameterBlock& weight, float beta, const Tensor& dx);
// dW += dy^T x, db += column sums of dy, straight into Parameter::grad.
void linear_weight_gradient(const Tensor& x, const Tensor& dy, const ParameterBlock& weight);
void bias_gradient(const Tensor& dy, const ParameterBlock& bias);

}  // namespace farsight
