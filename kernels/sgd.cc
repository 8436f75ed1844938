// SPDX-License-Identifier: Apache-2.0
#include "kernels/sgd.h"

#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/rows.h"
#include "kernels/sgd_cpu.h"

namespace farsight {
namespace {

SgdFactors make_factors(const SgdStep& step, const OptimizerRange& range) {
  const double rate = step.rate * static_cast<double>(range.rate);
  return {static_cast<float>(step.gradient_scale), static_cast<float>(step.momentum),
          static_cast<float>(range.decay ? 1.0 - rate * step.weight_decay : 1.0), static_cast<float>(rate)};
}

}  // namespace

void sgd(std::span<float> values, std::span<const float> gradients, std::span<float> momentum_buffer,
         std::span<const OptimizerRange> ranges, const SgdStep& step) {
  const bool buffer_fits = momentum_buffer.size() == values.size() || (step.momentum == 0.0 && momentum_buffer.empty());
  if (gradients.size() != values.size() || !buffer_fits) {
    fail(ErrorKind::internal, "sgd: {} values, {} gradients, momentum buffer of {}", values.size(), gradients.size(),
         momentum_buffer.size());
  }
  check_optimizer_ranges("sgd", ranges, values.size());
  const auto pieces = optimizer_pieces(ranges);
  float* buffer = step.momentum == 0.0 ? nullptr : momentum_buffer.data();
  parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& piece = pieces[static_cast<size_t>(i)];
      sgd_cpu(make_factors(step, piece), piece.count, gradients.data() + piece.begin, values.data() + piece.begin,
              buffer == nullptr ? nullptr : buffer + piece.begin);
    }
  });
}

void sgd(const Tensor& values, const Tensor& gradients, const Tensor& momentum_buffer,
         std::span<const OptimizerRange> ranges, const SgdStep& step, const Tensor& rounded, const Tensor& gate) {
  if (values.device() == Device::cpu) {
    SgdStep gated = step;
    if (gate.defined()) gated.gradient_scale = static_cast<double>(*gate.data<float>());
    if (std::isnan(gated.gradient_scale)) return;
    sgd(values.span<float>(), gradients.span<float>(),
        momentum_buffer.defined() ? momentum_buffer.span<float>() : std::span<float>(), ranges, gated);
    if (rounded.defined()) copy_rows(values, rounded);
    return;
  }
  if (step.momentum != 0.0 && !momentum_buffer.defined()) fail(ErrorKind::internal, "sgd: no momentum buffer");
  check_optimizer_ranges("sgd", ranges, static_cast<size_t>(values.numel()));
  const CudaOptimizerPlan plan("sgd", ranges);
  CudaSgd a{plan.slabs, {}};
  bind_slabs("sgd", a.slabs, values, gradients, step.momentum == 0.0 ? Tensor() : momentum_buffer, {}, rounded, gate);
  for (size_t g = 0; g < plan.groups.size(); ++g) a.groups[g] = make_factors(step, plan.groups[g]);
  cuda_device().run("sgd", &CudaBackend::sgd, a);
}

}  // namespace farsight
