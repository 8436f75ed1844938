// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw.h"

#include <cmath>

#include "kernels/adamw_cpu.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

AdamWFactors make_factors(const AdamWStep& s, const OptimizerRange& range) {
  const double rate = s.rate * static_cast<double>(range.rate);
  const auto t = static_cast<double>(s.step);
  AdamWFactors f;
  f.gradient_scale = static_cast<float>(s.gradient_scale);
  f.beta1 = static_cast<float>(s.beta1);
  f.one_minus_beta1 = static_cast<float>(1.0 - s.beta1);
  f.beta2 = static_cast<float>(s.beta2);
  f.one_minus_beta2 = static_cast<float>(1.0 - s.beta2);
  f.keep = static_cast<float>(range.decay ? 1.0 - rate * s.weight_decay : 1.0);
  f.step_size = static_cast<float>(rate / (1.0 - std::pow(s.beta1, t)));
  f.root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(s.beta2, t)));
  f.eps = static_cast<float>(s.eps);
  return f;
}

}  // namespace

void adamw(std::span<float> values, std::span<const float> gradients, std::span<float> m, std::span<float> v,
           std::span<const OptimizerRange> ranges, const AdamWStep& step) {
  if (gradients.size() != values.size() || m.size() != values.size() || v.size() != values.size() || step.step < 1) {
    fail(ErrorKind::internal, "adamw: {} values, {} gradients, {} and {} moments, step {}", values.size(),
         gradients.size(), m.size(), v.size(), step.step);
  }
  check_optimizer_ranges("adamw", ranges, values.size());
  const auto pieces = optimizer_pieces(ranges);
  parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& piece = pieces[static_cast<size_t>(i)];
      const int64_t at = piece.begin;
      adamw_cpu(make_factors(step, piece), piece.count, gradients.data() + at, values.data() + at, m.data() + at,
                v.data() + at);
    }
  });
}

void adamw(const Tensor& values, const Tensor& gradients, const Tensor& m, const Tensor& v,
           std::span<const OptimizerRange> ranges, const AdamWStep& step, const Tensor& rounded, const Tensor& gate) {
  if (values.device() == Device::cpu) {
    AdamWStep gated = step;
    if (gate.defined()) gated.gradient_scale = static_cast<double>(*gate.data<float>());
    if (std::isnan(gated.gradient_scale)) return;
    adamw(values.span<float>(), gradients.span<float>(), m.span<float>(), v.span<float>(), ranges, gated);
    if (rounded.defined()) copy_rows(values, rounded);
    return;
  }
  check_optimizer_ranges("adamw", ranges, static_cast<size_t>(values.numel()));
  const CudaOptimizerPlan plan("adamw", ranges);
  CudaAdamW a{plan.slabs, {}};
  bind_slabs("adamw", a.slabs, values, gradients, m, v, rounded, gate);
  for (size_t g = 0; g < plan.groups.size(); ++g) a.groups[g] = make_factors(step, plan.groups[g]);
  cuda_device().run("adamw", &CudaBackend::adamw, a);
}

}  // namespace farsight
