// SPDX-License-Identifier: Apache-2.0
#include "trainer/loss.h"

#include <vector>

#include "kernels/rows.h"

namespace farsight {
namespace {

void add_constant(const Gradient& gradient, float value) {
  if (gradient.beta == 0.0F) {
    fill(gradient.tensor, value);
    return;
  }
  const Tensor constant = Tensor::empty(gradient.tensor.shape());
  fill(constant, value);
  add_rows(constant, gradient.tensor);
}

}  // namespace

double sum_of(const Tensor& values) {
  double sum = 0.0;
  const Tensor host = values.to(Device::cpu);
  for (const float v : host.span<float>()) sum += static_cast<double>(v);
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
  fill(value, static_cast<float>(total));
  Var root = tape.input(std::move(value), tape.recording() && needs_gradient);
  tape.record(root, {}, [root, kept = std::vector<LossTerm>(terms.begin(), terms.end())] {
    const auto seed = static_cast<float>(sum_of(root.grad()));
    for (const auto& term : kept) {
      if (term.values.requires_grad()) add_constant(term.values.begin_gradient(), seed * term.weight);
    }
  });
  return root;
}

}  // namespace farsight
