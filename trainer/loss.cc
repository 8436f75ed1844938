// SPDX-License-Identifier: Apache-2.0
#include "trainer/loss.h"

#include <vector>

#include "kernels/error.h"
#include "kernels/rows.h"
#include "kernels/totals.h"

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

Var weighted_sum(Tape& tape, std::span<const LossTerm> terms) {
  if (terms.size() == 1 && terms[0].weight == 1.0F && terms[0].values.value().numel() == 1) return terms[0].values;
  bool needs_gradient = false;
  const Tensor value = Tensor::empty({1}), total = Tensor::zeros({1}, DType::f64);
  for (const auto& term : terms) {
    add_sum(term.values.value(), static_cast<double>(term.weight), total, value);
    needs_gradient |= term.values.requires_grad();
  }
  Var root = tape.input(value, tape.recording() && needs_gradient);
  tape.record(root, {}, [root, kept = std::vector<LossTerm>(terms.begin(), terms.end())] {
    const Tensor& seed = root.grad();
    if (seed.device() == Device::cpu && *seed.data<float>() != 1.0F) {
      fail(ErrorKind::internal, "weighted_sum: backward starts from {}, not 1", *seed.data<float>());
    }
    for (const auto& term : kept) {
      if (term.values.requires_grad()) add_constant(term.values.begin_gradient(), term.weight);
    }
  });
  return root;
}

}  // namespace farsight
