// SPDX-License-Identifier: Apache-2.0
#include "kernels/forecast_loss.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/column_sums.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/forecast_loss_cpu.h"

namespace farsight {
namespace {

int64_t component_outputs(MixtureKind kind) {
  switch (kind) {
    case MixtureKind::gaussian:
      return 3;
    case MixtureKind::student_t:
      return 4;
    case MixtureKind::fixed:
      return 2;
  }
  return 0;
}

void set_levels(const std::vector<double>& levels, ForecastTerms& terms) {
  const auto count = static_cast<int64_t>(levels.size());
  const bool inside = std::all_of(levels.begin(), levels.end(), [](double tau) { return tau > 0.0 && tau < 1.0; });
  if (count < 1 || count > kMaxQuantileLevels || !inside) {
    fail(ErrorKind::internal, "forecast_loss: {} levels, 1 to {} between 0 and 1 are possible", count,
         kMaxQuantileLevels);
  }
  terms.count = static_cast<int32_t>(count);
  std::copy(levels.begin(), levels.end(), terms.levels);
  const auto nearest = std::min_element(levels.begin(), levels.end(),
                                        [](double a, double b) { return std::abs(a - 0.5) < std::abs(b - 0.5); });
  terms.point = static_cast<int32_t>(nearest - levels.begin());
}

void set_components(const std::vector<MixtureComponent>& components, ForecastTerms& terms) {
  const auto count = static_cast<int64_t>(components.size());
  if (count < 1 || count > kMaxMixtureComponents) {
    fail(ErrorKind::internal, "forecast_loss: {} components, 1 to {} are possible", count, kMaxMixtureComponents);
  }
  terms.count = static_cast<int32_t>(count);
  for (size_t k = 0; k < components.size(); ++k) {
    if (!(components[k].scale > 0.0)) fail(ErrorKind::internal, "forecast_loss: component {} has scale 0", k);
    terms.components[k] = components[k].kind;
    terms.scales[k] = components[k].scale;
  }
}

ForecastTerms make_terms(const ForecastLossOptions& o) {
  ForecastTerms terms;
  terms.kind = o.kind;
  terms.delta = o.delta;
  if (o.kind == ForecastLossKind::huber && !(o.delta > 0.0)) {
    fail(ErrorKind::internal, "forecast_loss: huber with delta {}", o.delta);
  }
  if (o.kind == ForecastLossKind::quantile) set_levels(o.levels, terms);
  if (o.kind == ForecastLossKind::mixture) set_components(o.components, terms);
  terms.outputs = static_cast<int32_t>(forecast_outputs(o));
  return terms;
}

void check_data(const char* name, const Tensor& t, DType type, const Shape& shape, Device device) {
  if (!t.defined()) return;
  expect_shape("forecast_loss", name, t, shape);
  if (t.dtype() == type && t.contiguous() && t.device() == device) return;
  fail(ErrorKind::internal, "forecast_loss: {} is {} on {}, the head on {}", name, to_string(t.dtype()),
       to_string(t.device()), to_string(device));
}

void check(const Tensor& head, const ForecastTargets& t, const ForecastTerms& terms) {
  const Device device = head.device();
  if (!t.values.defined() || t.values.rank() != 2) fail(ErrorKind::internal, "forecast_loss: targets are no matrix");
  const int64_t rows = t.values.dim(0), horizon = t.values.dim(1);
  expect_shape("forecast_loss", "head", head, {rows, horizon * terms.outputs});
  check_data("targets", t.values, DType::f32, t.values.shape(), device);
  check_data("observed", t.observed, DType::u8, t.values.shape(), device);
  check_data("mean", t.mean, DType::f32, {rows}, device);
  check_data("std", t.std, DType::f32, {rows}, device);
  const bool pairs = t.mean.defined() == t.std.defined() && (t.gamma == nullptr) == (t.beta == nullptr);
  if (!pairs) fail(ErrorKind::internal, "forecast_loss: mean without std, or gamma without beta");
  if (t.gamma == nullptr) return;
  expect_together("forecast_loss", {&head, &t.gamma->value, &t.beta->value});
  const int64_t channels = t.gamma->numel();
  if (channels > 0 && rows % channels == 0 && t.beta->numel() == channels) return;
  fail(ErrorKind::internal, "forecast_loss: {} rows, '{}' has {} elements, '{}' {}", rows, t.gamma->name, channels,
       t.beta->name, t.beta->numel());
}

struct Gradients {
  Tensor head, gamma, beta;  // of gamma and beta the share of each row
};

template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.raw());
}

void run_cpu(const ForecastTerms& terms, double scale, const Tensor& head, const ForecastTargets& t, const Gradients& g,
             const Tensor& sums, const Tensor& loss) {
  ForecastRows a;
  a.rows = t.values.dim(0);
  a.horizon = t.values.dim(1);
  a.channels = t.gamma == nullptr ? 1 : t.gamma->numel();
  a.head = head.data<float>();
  a.head_stride = head.row_stride();
  a.targets = pointer<float>(t.values);
  a.observed = pointer<uint8_t>(t.observed);
  a.mean = pointer<float>(t.mean);
  a.std = pointer<float>(t.std);
  a.gamma = t.gamma == nullptr ? nullptr : t.gamma->value.data<float>();
  a.beta = t.beta == nullptr ? nullptr : t.beta->value.data<float>();
  a.scale = scale;
  a.dhead = pointer<float>(g.head);
  a.dgamma = pointer<float>(g.gamma);
  a.dbeta = pointer<float>(g.beta);
  forecast_loss_cpu(terms, a, sums.data<double>());
  *loss.data<float>() = static_cast<float>(scale * sums.data<double>()[0]);
}

void run(const ForecastTerms& terms, double scale, const Tensor& head, const ForecastTargets& t, const Gradients& g,
         const Tensor& sums, const Tensor& loss) {
  if (head.device() == Device::cpu) {
    run_cpu(terms, scale, head, t, g, sums, loss);
    return;
  }
  const Tensor row_sums = Tensor::empty({t.values.dim(0), 3}, DType::f64);
  const CudaForecastLoss a{head.dtype(),
                           t.values.dim(0),
                           t.values.dim(1),
                           t.gamma == nullptr ? 1 : t.gamma->numel(),
                           head.raw(),
                           head.row_stride(),
                           pointer<float>(t.values),
                           pointer<uint8_t>(t.observed),
                           pointer<float>(t.mean),
                           pointer<float>(t.std),
                           t.gamma == nullptr ? nullptr : t.gamma->value.raw(),
                           t.beta == nullptr ? nullptr : t.beta->value.raw(),
                           scale,
                           g.head.raw(),
                           pointer<float>(g.gamma),
                           pointer<float>(g.beta),
                           pointer<double>(row_sums),
                           pointer<double>(sums),
                           pointer<float>(loss),
                           terms};
  cuda_device().run("forecast_loss", &CudaBackend::forecast_loss, a);
}

// On a device the host would have to wait for the number.
void check_seed(const Tensor& gradient) {
  if (gradient.device() != Device::cpu || *gradient.data<float>() == 1.0F) return;
  fail(ErrorKind::internal, "forecast_loss: the gradient of the loss is {}, but was assumed to be 1 in forward",
       *gradient.data<float>());
}

// The shares of the rows, [R] = [R / C, C], into the gradient.
void reduce_rows(const Tensor& shares, Parameter& parameter) {
  const int64_t channels = parameter.numel();
  const bool add = parameter.begin_accumulate() != 0.0F;
  column_sums(shares.view({shares.numel() / channels, channels}), add, parameter.grad);
}

Gradients make_gradients(const Tensor& head, int64_t rows, bool affine) {
  Gradients g{Tensor::empty(head.shape(), head.dtype()), {}, {}};
  if (affine) g.gamma = Tensor::empty({rows});
  if (affine) g.beta = Tensor::empty({rows});
  return g;
}

}  // namespace

int64_t forecast_outputs(const ForecastLossOptions& options) {
  switch (options.kind) {
    case ForecastLossKind::mse:
    case ForecastLossKind::mae:
    case ForecastLossKind::huber:
      return 1;
    case ForecastLossKind::quantile:
      return static_cast<int64_t>(options.levels.size());
    case ForecastLossKind::gaussian:
      return 2;
    case ForecastLossKind::student_t:
      return 3;
    case ForecastLossKind::mixture: {
      int64_t outputs = 0;
      for (const MixtureComponent& c : options.components) outputs += component_outputs(c.kind);
      return outputs;
    }
  }
  return 0;
}

ForecastLossResult forecast_loss(Tape& tape, const Var& head, const ForecastTargets& targets,
                                 const ForecastLossOptions& options) {
  const ForecastTerms terms = make_terms(options);
  const Tensor& in = head.value();
  check(in, targets, terms);
  const bool affine = targets.gamma != nullptr;
  const bool gradient = tape.recording() && (head.requires_grad() || affine);
  const Gradients g = gradient ? make_gradients(in, targets.values.dim(0), affine) : Gradients{};
  const Tensor sums = Tensor::empty({3}, DType::f64, MemoryTag::other), loss = Tensor::empty({1});
  run(terms, options.scale, in, targets, g, sums, loss);
  const Var out = tape.variable(loss, {head}, /*uses_parameters=*/affine);
  tape.record(out, {targets.gamma, targets.beta}, [head, out, g, gamma = targets.gamma, beta = targets.beta] {
    check_seed(out.grad());
    give_gradient(head, g.head);
    if (gamma == nullptr) return;
    reduce_rows(g.gamma, *gamma);
    reduce_rows(g.beta, *beta);
  });
  return {out, sums};
}

}  // namespace farsight
