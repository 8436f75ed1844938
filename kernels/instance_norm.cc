// SPDX-License-Identifier: Apache-2.0
#include "kernels/instance_norm.h"

#include <utility>

#include "kernels/column_sums.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/instance_norm_cpu.h"

namespace farsight {
namespace {

struct Call {
  Tensor x, observed;
  Parameter* gamma;
  Parameter* beta;
  Tensor statistics;  // f64 [R, 2]: mean, 1 / std
  bool last = false;
  int64_t channels() const { return gamma == nullptr ? 1 : gamma->numel(); }
};

void check(const Tensor& x, const InstanceNormOptions& o) {
  const bool type_fits = o.type == DType::f32 || (o.type == DType::bf16 && x.device() == Device::cuda);
  if (x.dtype() != DType::f32 || x.rank() != 2 || !type_fits) {
    fail(ErrorKind::internal, "instance_norm: {} {} to {} on {}", to_string(x.dtype()), to_string(x.shape()),
         to_string(o.type), to_string(x.device()));
  }
  if (o.observed.defined()) {
    expect_shape("instance_norm", "observed", o.observed, x.shape());
    const bool fits = o.observed.dtype() == DType::u8 && o.observed.contiguous() && o.observed.device() == x.device();
    if (!fits) fail(ErrorKind::internal, "instance_norm: observed is {}", to_string(o.observed.dtype()));
  }
  if ((o.gamma == nullptr) != (o.beta == nullptr)) fail(ErrorKind::internal, "instance_norm: gamma without beta");
  if (o.gamma == nullptr) return;
  expect_together("instance_norm", {&o.gamma->value, &o.beta->value});
  const int64_t channels = o.gamma->numel();
  if (channels == 0 || x.rows() % channels != 0 || o.beta->numel() != channels || o.gamma->value.dtype() != o.type) {
    fail(ErrorKind::internal, "instance_norm: {} rows, '{}' has {} {} elements, '{}' {}", x.rows(), o.gamma->name,
         channels, to_string(o.gamma->value.dtype()), o.beta->name, o.beta->numel());
  }
}

InstanceNormRows cpu_rows(const Call& c) {
  const bool affine = c.gamma != nullptr;
  return {c.x.rows(),
          c.x.cols(),
          c.channels(),
          c.x.data<float>(),
          c.x.row_stride(),
          c.observed.defined() ? c.observed.data<uint8_t>() : nullptr,
          affine ? c.gamma->value.data<float>() : nullptr,
          affine ? c.beta->value.data<float>() : nullptr,
          c.last};
}

void forward(const Call& c, float eps, const Tensor& y, const Tensor& mean, const Tensor& std) {
  if (c.x.device() == Device::cpu) {
    instance_norm_forward_cpu(cpu_rows(c), eps, y.data<float>(), mean.data<float>(), std.data<float>(),
                              c.statistics.data<double>());
    return;
  }
  const CudaInstanceNormForward a{y.dtype(),
                                  c.x.rows(),
                                  c.x.cols(),
                                  c.channels(),
                                  static_cast<const float*>(c.x.raw()),
                                  c.x.row_stride(),
                                  static_cast<const uint8_t*>(c.observed.raw()),
                                  c.gamma == nullptr ? nullptr : c.gamma->value.raw(),
                                  c.beta == nullptr ? nullptr : c.beta->value.raw(),
                                  c.last,
                                  eps,
                                  y.raw(),
                                  static_cast<float*>(mean.raw()),
                                  static_cast<float*>(std.raw()),
                                  static_cast<double*>(c.statistics.raw())};
  cuda_device().run("instance_norm", &CudaBackend::instance_norm_forward, a);
}

// dgamma, dbeta [R] and dx.tensor may be undefined.
void backward(const Call& c, const Tensor& dy, const Tensor& dgamma, const Tensor& dbeta, const Gradient& dx) {
  const bool add = dx.beta != 0.0F;
  auto* const to = static_cast<float*>(dx.tensor.raw());
  auto *const gamma = static_cast<float*>(dgamma.raw()), *const beta = static_cast<float*>(dbeta.raw());
  if (c.x.device() == Device::cpu) {
    instance_norm_backward_cpu(cpu_rows(c), c.statistics.data<double>(), dy.data<float>(), gamma, beta, add, to,
                               dx.tensor.row_stride());
    return;
  }
  const CudaInstanceNormBackward a{dy.dtype(),
                                   c.x.rows(),
                                   c.x.cols(),
                                   c.channels(),
                                   static_cast<const float*>(c.x.raw()),
                                   c.x.row_stride(),
                                   static_cast<const uint8_t*>(c.observed.raw()),
                                   c.gamma == nullptr ? nullptr : c.gamma->value.raw(),
                                   static_cast<const double*>(c.statistics.raw()),
                                   dy.raw(),
                                   gamma,
                                   beta,
                                   to,
                                   dx.tensor.row_stride(),
                                   add};
  cuda_device().run("instance_norm backward", &CudaBackend::instance_norm_backward, a);
}

// The shares of the rows, [R] = [R / C, C], into the gradient.
void reduce_rows(const Tensor& shares, Parameter& parameter) {
  const int64_t channels = parameter.numel();
  const bool add = parameter.begin_accumulate() != 0.0F;
  column_sums(shares.view({shares.numel() / channels, channels}), add, parameter.grad);
}

void run_backward(const Call& c, const Var& x, const Tensor& dy) {
  const Gradient dx = x.requires_grad() ? x.begin_gradient() : Gradient{Tensor(), 0.0F};
  const Tensor dgamma = c.gamma == nullptr ? Tensor() : Tensor::empty({c.x.rows()});
  const Tensor dbeta = c.gamma == nullptr ? Tensor() : Tensor::empty({c.x.rows()});
  backward(c, dy, dgamma, dbeta, dx);
  if (c.gamma == nullptr) return;
  reduce_rows(dgamma, *c.gamma);
  reduce_rows(dbeta, *c.beta);
}

}  // namespace

InstanceNormed instance_norm(Tape& tape, const Var& x, const InstanceNormOptions& options) {
  const Tensor& in = x.value();
  check(in, options);
  Call call{in,
            options.observed,
            options.gamma,
            options.beta,
            Tensor::empty({in.rows(), 2}, DType::f64),
            options.kind == InstanceNormKind::last};
  Tensor y = Tensor::empty(in.shape(), options.type);
  const Tensor mean = Tensor::empty({in.rows()}), std = Tensor::empty({in.rows()});
  forward(call, options.eps, y, mean, std);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/options.gamma != nullptr);
  tape.record(out, {options.gamma, options.beta},
              [x, out, call = std::move(call)] { run_backward(call, x, out.grad()); });
  return {out, mean, std};
}

}  // namespace farsight
