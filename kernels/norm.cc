// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.h"

#include <utility>

#include "kernels/column_sums.h"
#include "kernels/cuda/device.h"
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
  expect_together("norm", {&input, &weight.value});
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
float* floats(const Tensor& t) { return static_cast<float*>(t.raw()); }

// y = norm(residual + dropout(x)), the sum into `sum`; x may be undefined.
void run_forward_cuda(const Call& call, float eps, const Tensor& x, const Tensor& sum, const Tensor& y,
                      const DropoutDraw& draw) {
  CudaNormForward a{};
  a.type = call.input.dtype();
  a.rows = call.size.rows;
  a.groups = call.size.groups;
  a.width = call.size.width;
  a.centred = call.size.centred;
  if (x.defined()) {
    a.x = x.raw();
    a.x_stride = x.row_stride();
    a.sum = sum.raw();
  }
  a.residual = call.input.raw();
  a.residual_stride = call.input.row_stride();
  a.weight = call.weight->value.raw();
  a.bias = call.bias == nullptr ? nullptr : call.bias->value.raw();
  a.eps = eps;
  a.y = y.raw();
  a.rstd = floats(call.rstd);
  a.mean = floats(call.mean);
  a.dropout = draw.cuda();
  cuda_device().run("norm", &CudaBackend::norm_forward, a);
}

void run_forward(const Call& call, float eps, const Tensor& x, const Tensor& sum, const Tensor& y,
                 const DropoutDraw& draw) {
  if (call.size.rows == 0) return;
  if (call.input.device() == Device::cuda) {
    run_forward_cuda(call, eps, x, sum, y, draw);
    return;
  }
  NormForward a;
  if (x.defined()) {
    a.x = x.data<float>();
    a.x_stride = x.row_stride();
    a.sum = sum.data<float>();
  }
  a.residual = call.input.data<float>();
  a.residual_stride = call.input.row_stride();
  a.weight = call.weight->value.data<float>();
  a.bias = call.bias == nullptr ? nullptr : call.bias->value.data<float>();
  a.eps = eps;
  a.y = y.data<float>();
  a.rstd = call.rstd.data<float>();
  a.mean = data_or_null(call.mean);
  norm_forward_cpu(call.size, a, draw);
}

void reduce_blocks(const Tensor& partial, Parameter& parameter) {
  const bool add = parameter.begin_accumulate() != 0.0F;
  column_sums(partial, add, parameter.grad);
}

// Where the gradients go; undefined tensors: nowhere.
struct Targets {
  Tensor dsum;  // gradient of the new residual
  Tensor residual, x;
  bool add_residual = false, add_x = false;
};

void run_backward_cuda(const Call& call, const Targets& to, const Tensor& dy, const Tensor& dweight,
                       const Tensor& dbias, const DropoutDraw& draw) {
  CudaNormBackward a{};
  a.type = call.input.dtype();
  a.rows = call.size.rows;
  a.groups = call.size.groups;
  a.width = call.size.width;
  a.centred = call.size.centred;
  a.dy = dy.raw();
  a.input = call.input.raw();
  a.input_stride = call.input.row_stride();
  a.weight = call.weight->value.raw();
  a.rstd = floats(call.rstd);
  a.mean = floats(call.mean);
  a.dsum = to.dsum.raw();
  a.dresidual = to.residual.raw();
  a.dresidual_stride = to.residual.row_stride();
  a.add_residual = to.add_residual;
  a.dx = to.x.raw();
  a.dx_stride = to.x.row_stride();
  a.add_x = to.add_x;
  a.dweight = floats(dweight);
  a.dbias = floats(dbias);
  a.dropout = draw.cuda();
  cuda_device().run("norm backward", &CudaBackend::norm_backward, a);
}

void run_backward_cpu(const Call& call, const Targets& to, const Tensor& dy, const Tensor& dweight, const Tensor& dbias,
                      const DropoutDraw& draw) {
  NormBackward a;
  a.dsum = data_or_null(to.dsum);
  a.dresidual = data_or_null(to.residual);
  a.dresidual_stride = to.residual.row_stride();
  a.add_residual = to.add_residual;
  a.dx = data_or_null(to.x);
  a.dx_stride = to.x.row_stride();
  a.add_x = to.add_x;
  a.dy = dy.data<float>();
  a.input = call.input.data<float>();
  a.input_stride = call.input.row_stride();
  a.weight = call.weight->value.data<float>();
  a.rstd = call.rstd.data<float>();
  a.mean = data_or_null(call.mean);
  a.dweight = dweight.data<float>();
  a.dbias = data_or_null(dbias);
  norm_backward_cpu(call.size, a, draw);
}

// Runs the loops and reduces the gradients of the weights.
void run_backward(const Call& call, const Targets& to, const Tensor& dy, const DropoutDraw& draw) {
  if (call.size.rows == 0) return;
  const bool device = call.input.device() == Device::cuda;
  const int64_t blocks = device ? (call.size.rows + kCudaNormRows - 1) / kCudaNormRows : norm_blocks(call.size.rows);
  const Tensor dweight = Tensor::empty({blocks, call.size.width});
  const Tensor dbias = call.bias == nullptr ? Tensor() : Tensor::empty(dweight.shape());
  device ? run_backward_cuda(call, to, dy, dweight, dbias, draw) : run_backward_cpu(call, to, dy, dweight, dbias, draw);
  reduce_blocks(dweight, *call.weight);
  if (call.bias != nullptr) reduce_blocks(dbias, *call.bias);
}

// The gradient of the sum becomes that of the residual: in the same memory when nobody else contributed before.
void residual_target(const Var& residual, const Tensor& dsum, Targets& to) {
  if (!residual.requires_grad()) return;
  if (residual.adopt_gradient(dsum)) {
    to.residual = dsum;
    return;
  }
  const Gradient d = residual.begin_gradient();
  to.residual = d.tensor;
  to.add_residual = d.beta != 0.0F;
}

void branch_target(const Var& x, Targets& to) {
  if (!x.requires_grad()) return;
  const Gradient d = x.begin_gradient();
  to.x = d.tensor;
  to.add_x = d.beta != 0.0F;
}

}  // namespace

Var norm(Tape& tape, const Var& x, Parameter& weight, Parameter* bias, NormKind kind, float eps) {
  Call call = make_call(x.value(), weight, bias, kind);
  Tensor y = Tensor::empty(x.shape(), x.value().dtype());
  run_forward(call, eps, {}, {}, y, DropoutDraw());
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  tape.record(out, {&weight, bias}, [x, out, call = std::move(call)] {
    Targets to;
    branch_target(x, to);
    run_backward(call, to, out.grad(), DropoutDraw());
  });
  return out;
}

NormResidual norm_residual(Tape& tape, const Var& x, const Var& residual, Parameter& weight, Parameter* bias,
                           NormKind kind, float eps, const DropoutSite* dropout) {
  if (!x.defined()) return {norm(tape, residual, weight, bias, kind, eps), residual};
  expect_shape("norm_residual", "x", x.value(), residual.shape());
  expect_together("norm_residual", {&x.value(), &residual.value()});
  DropoutDraw draw("norm_residual", dropout, x.value().rows());
  Call call = make_call(residual.value(), weight, bias, kind);
  Tensor y = Tensor::empty(residual.shape(), call.input.dtype());
  const Tensor sum = Tensor::empty(residual.shape(), call.input.dtype());
  run_forward(call, eps, x.value(), sum, y, draw);
  call.input = sum;
  const Var normed = tape.variable(std::move(y), {x, residual}, /*uses_parameters=*/true);
  const Var total = tape.variable(sum, {x, residual}, /*uses_parameters=*/true);
  tape.record({normed, total}, {&weight, bias},
              [x, residual, normed, total, call = std::move(call), draw = std::move(draw)] {
                Targets to;
                to.dsum = total.grad();
                residual_target(residual, total.grad(), to);
                branch_target(x, to);
                run_backward(call, to, normed.grad(), draw);
              });
  return {normed, total};
}

}  // namespace farsight
