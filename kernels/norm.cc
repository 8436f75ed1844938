// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.h"

#include <utility>

#include "kernels/column_sums.h"
#include "kernels/error.h"
#include "kernels/norm_cpu.h"

namespace farsight {
namespace {

struct Call {
  NormSize size;
  Parameter* weight;
  Parameter* bias;
  Tensor input;  // what is normalised
  Tensor rstd, mean;
};

Call make_call(const Tensor& input, Parameter& weight, Parameter* bias, NormKind kind) {
  const int64_t width = weight.value.numel();
  const bool fits = width > 0 && input.cols() % width == 0 && (bias == nullptr || bias->value.numel() == width);
  if (!fits) {
    fail(ErrorKind::internal, "norm: '{}' has {} elements, bias {}, the rows have shape {}", weight.name, width,
         bias == nullptr ? 0 : bias->value.numel(), to_string(input.shape()));
  }
  if (kind == NormKind::rms && bias != nullptr) fail(ErrorKind::internal, "norm: rms takes no bias ('{}')", bias->name);
  Call call{{input.rows(), input.cols() / width, width, kind == NormKind::layer}, &weight, bias, input, {}, {}};
  call.rstd = Tensor::empty({call.size.rows, call.size.groups});
  if (call.size.centred) call.mean = Tensor::empty({call.size.rows, call.size.groups});
  return call;
}

float* data_or_null(const Tensor& t) { return t.defined() ? t.data<float>() : nullptr; }

NormForward forward_args(const Call& call, float eps, const Tensor& y) {
  NormForward a;
  a.residual = call.input.data<float>();
  a.residual_stride = call.input.row_stride();
  a.weight = call.weight->value.data<float>();
  a.bias = call.bias == nullptr ? nullptr : call.bias->value.data<float>();
  a.eps = eps;
  a.y = y.data<float>();
  a.rstd = call.rstd.data<float>();
  a.mean = data_or_null(call.mean);
  return a;
}

void reduce_blocks(const Tensor& partial, Parameter& parameter) {
  const bool add = parameter.begin_accumulate() != 0.0F;
  column_sums(partial.data<float>(), partial.rows(), partial.cols(), partial.cols(), add, parameter.grad.data<float>());
}

// Fills in what all backward calls share, runs the loops and reduces the gradients of the weights.
void run_backward(const Call& call, NormBackward a, const Tensor& dy, const DropoutDraw& draw) {
  if (call.size.rows == 0) return;
  const Tensor dweight = Tensor::empty({norm_blocks(call.size.rows), call.size.width});
  const Tensor dbias = call.bias == nullptr ? Tensor() : Tensor::empty(dweight.shape());
  a.dy = dy.data<float>();
  a.input = call.input.data<float>();
  a.input_stride = call.input.row_stride();
  a.weight = call.weight->value.data<float>();
  a.rstd = call.rstd.data<float>();
  a.mean = data_or_null(call.mean);
  a.dweight = dweight.data<float>();
  a.dbias = data_or_null(dbias);
  norm_backward_cpu(call.size, a, draw);
  reduce_blocks(dweight, *call.weight);
  if (call.bias != nullptr) reduce_blocks(dbias, *call.bias);
}

// The gradient of the sum becomes that of the residual: in the same memory when nobody else contributed before.
void residual_target(const Var& residual, const Tensor& dsum, NormBackward& a) {
  if (!residual.requires_grad()) return;
  if (residual.adopt_gradient(dsum)) {
    a.dresidual = dsum.data<float>();
    a.dresidual_stride = dsum.row_stride();
    return;
  }
  const Gradient d = residual.begin_gradient();
  a.dresidual = d.tensor.data<float>();
  a.dresidual_stride = d.tensor.row_stride();
  a.add_residual = d.beta != 0.0F;
}

void branch_target(const Var& x, NormBackward& a) {
  if (!x.requires_grad()) return;
  const Gradient d = x.begin_gradient();
  a.dx = d.tensor.data<float>();
  a.dx_stride = d.tensor.row_stride();
  a.add_x = d.beta != 0.0F;
}

}  // namespace

Var norm(Tape& tape, const Var& x, Parameter& weight, Parameter* bias, NormKind kind, float eps) {
  Call call = make_call(x.value(), weight, bias, kind);
  Tensor y = Tensor::empty(x.shape());
  norm_forward_cpu(call.size, forward_args(call, eps, y), DropoutDraw());
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  tape.record(out, {&weight, bias}, [x, out, call = std::move(call)] {
    NormBackward a;
    branch_target(x, a);
    run_backward(call, a, out.grad(), DropoutDraw());
  });
  return out;
}

NormResidual norm_residual(Tape& tape, const Var& x, const Var& residual, Parameter& weight, Parameter* bias,
                           NormKind kind, float eps, const DropoutSite* dropout) {
  if (!x.defined()) return {norm(tape, residual, weight, bias, kind, eps), residual};
  expect_shape("norm_residual", "x", x.value(), residual.shape());
  DropoutDraw draw("norm_residual", dropout, x.value().rows());
  Call call = make_call(residual.value(), weight, bias, kind);
  Tensor y = Tensor::empty(residual.shape());
  const Tensor sum = Tensor::empty(residual.shape());
  NormForward a = forward_args(call, eps, y);
  a.x = x.value().data<float>();
  a.x_stride = x.value().row_stride();
  a.sum = sum.data<float>();
  norm_forward_cpu(call.size, a, draw);
  call.input = sum;
  const Var normed = tape.variable(std::move(y), {x, residual}, /*uses_parameters=*/true);
  const Var total = tape.variable(sum, {x, residual}, /*uses_parameters=*/true);
  tape.record({normed, total}, {&weight, bias},
              [x, residual, normed, total, call = std::move(call), draw = std::move(draw)] {
                NormBackward b;
                b.dsum = total.grad().data<float>();
                residual_target(residual, total.grad(), b);
                branch_target(x, b);
                run_backward(call, b, normed.grad(), draw);
              });
  return {normed, total};
}

}  // namespace farsight
