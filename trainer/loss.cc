// SPDX-License-Identifier: Apache-2.0
#include "trainer/loss.h"

#include <vector>

namespace farsight {
namespace {

void add_constant(const Gradient& gradient, float value) {
  float* out = gradient.tensor.data<float>();
  for (int64_t i = 0; i < gradient.tensor.numel(); ++i) out[i] = value + (gradient.beta == 0.0F ? 0.0F : out[i]);
}

}  // namespace

double sum_of(const Tensor& values) {
  double sum = 0.0;
  for (const float v : values.span<float>()) sum += static_cast<double>(v);
  return sum;
}

Var weighted_sum(Tape& tape, std::span<const LossTerm> terms) {
  double total = 0.0;
  bool needs_gradient = false;
  for (const auto& term : terms) {
    total += static_cast<double>(term.weight) * sum_of(term.values.value());
    needs_gradient |= term.values.requires_grad();
  }
  Tensor value = Tensor::empty({1});
  *value.data<float>() = static_cast<float>(total);
  Var root = tape.input(std::move(value), tape.recording() && needs_gradient);
  tape.record(root, {}, [root, kept = std::vector<LossTerm>(terms.begin(), terms.end())] {
    const float seed = *root.grad().data<float>();
    for (const auto& term : kept) {
      if (term.values.requires_grad()) add_constant(term.values.begin_gradient(), seed * term.weight);
    }
  });
  return root;
}

}  // namespace farsight
