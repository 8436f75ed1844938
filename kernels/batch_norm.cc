// SPDX-License-Identifier: Apache-2.0
#include "kernels/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/batch_norm_cpu.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"

namespace farsight {
namespace {

// A call, and what its backward needs.
struct Call {
  Tensor input;  // what is normalised
  Parameter *weight, *bias, *running_mean, *running_var;
  BatchNormOptions options;
  int64_t all_rows = 0;
  Tensor totals, squares;          // f64 [C], of all ranks; undefined where the running averages are used
  Tensor own_totals, own_squares;  // this rank's parts of them
  std::vector<double> mean, rstd;  // of the columns, on the CPU
  bool on_cpu() const { return input.device() == Device::cpu; }
  int64_t rows() const { return input.rows(); }
  int64_t cols() const { return input.cols(); }
  void reduce(const Tensor& sums) const {
    if (options.all_reduce_sum) options.all_reduce_sum(sums);
  }
};

double* doubles(const Tensor& t) { return static_cast<double*>(t.raw()); }

void check(const Call& c) {
  expect_together("batch_norm", {&c.input, &c.weight->value, &c.bias->value});
  expect_together("batch_norm", {&c.running_mean->value, &c.running_var->value});
  const int64_t cols = c.cols();
  for (const Parameter* p : {c.weight, c.bias, c.running_mean, c.running_var}) {
    if (p->numel() == cols) continue;
    fail(ErrorKind::internal, "batch_norm: '{}' has {} elements, the rows have shape {}", p->name, p->numel(),
         to_string(c.input.shape()));
  }
  const DType running = c.running_mean->value.dtype();
  const bool known = running == DType::f32 || (running == DType::bf16 && !c.on_cpu());
  if (!known || c.running_mean->value.device() != c.input.device()) {
    fail(ErrorKind::internal, "batch_norm: '{}' is {} on {}", c.running_mean->name, to_string(running),
         to_string(c.running_mean->value.device()));
  }
  if (c.all_rows < c.rows()) {
    fail(ErrorKind::internal, "batch_norm: {} rows of all ranks, {} here", c.all_rows, c.rows());
  }
}

int64_t block_rows(const Call& c) { return c.on_cpu() ? batch_norm_block_rows(c.cols()) : kCudaBatchNormRows; }

// What statistics are taken of, block by block.
struct Blocks {
  Tensor means, squares;  // f64 [blocks, C]
};

void run_blocks(const Call& c, const Tensor& x, const Tensor& sum, const DropoutDraw& draw, const Blocks& blocks) {
  if (c.on_cpu()) {
    BatchNormBlocks a;
    a.rows = c.rows();
    a.cols = c.cols();
    a.x = x.defined() ? x.data<float>() : nullptr;
    a.x_stride = x.row_stride();
    a.residual = c.input.data<float>();
    a.residual_stride = c.input.row_stride();
    a.sum = sum.defined() ? sum.data<float>() : nullptr;
    a.means = doubles(blocks.means);
    a.squares = doubles(blocks.squares);
    batch_norm_blocks_cpu(a, draw);
    return;
  }
  const CudaBatchNormBlocks a{c.input.dtype(),
                              c.rows(),
                              c.cols(),
                              x.raw(),
                              x.row_stride(),
                              c.input.raw(),
                              c.input.row_stride(),
                              sum.raw(),
                              doubles(blocks.means),
                              doubles(blocks.squares),
                              draw.cuda()};
  cuda_device().run("batch_norm", &CudaBackend::batch_norm_blocks, a);
}

// Without `totals`, sums of the columns; with them, sums of the squared distances to the mean of all ranks.
Tensor join(const Call& c, const Blocks& blocks, const Tensor& totals) {
  const Tensor out = Tensor::empty({c.cols()}, DType::f64);
  if (!c.on_cpu()) {
    const CudaBatchNormJoin a{c.rows(),        c.cols(),    c.all_rows, doubles(blocks.means), doubles(blocks.squares),
                              doubles(totals), doubles(out)};
    cuda_device().run("batch_norm", &CudaBackend::batch_norm_join, a);
    return out;
  }
  double* sums = doubles(out);
  std::fill_n(sums, c.cols(), 0.0);
  const double *means = doubles(blocks.means), *squares = doubles(blocks.squares);
  for (int64_t first = 0; first < c.rows(); first += block_rows(c), means += c.cols(), squares += c.cols()) {
    const auto rows = static_cast<double>(std::min(block_rows(c), c.rows() - first));
    for (int64_t i = 0; i < c.cols(); ++i) {
      if (!totals.defined()) {
        sums[i] += rows * means[i];
      } else {
        const double distance = means[i] - doubles(totals)[i] / static_cast<double>(c.all_rows);
        sums[i] += squares[i] + rows * distance * distance;
      }
    }
  }
  return out;
}

// The sum over the ranks, and in `own` what this rank had.
void reduce(const Call& c, const Tensor& sums, Tensor& own) {
  own = sums.clone();
  c.reduce(sums);
}

// Fills the statistics of the batch.
void take_statistics(Call& c, const Blocks& blocks) {
  c.totals = join(c, blocks, Tensor());
  reduce(c, c.totals, c.own_totals);
  c.squares = join(c, blocks, c.totals);
  reduce(c, c.squares, c.own_squares);
}

// What loops on the CPU take.
void fill_columns(Call& c) {
  const auto rows = static_cast<double>(c.all_rows);
  for (int64_t i = 0; i < c.cols(); ++i) {
    const bool running = !c.totals.defined();
    const double var =
        running ? static_cast<double>(c.running_var->value.data<float>()[i]) : doubles(c.squares)[i] / rows;
    c.mean.push_back(running ? static_cast<double>(c.running_mean->value.data<float>()[i])
                             : doubles(c.totals)[i] / rows);
    c.rstd.push_back(1.0 / std::sqrt(var + static_cast<double>(c.options.eps)));
  }
}

BatchNormColumns cpu_columns(const Call& c) { return {c.mean.data(), c.rstd.data(), c.weight->value.data<float>()}; }

CudaBatchStatistics cuda_statistics(const Call& c) {
  return {doubles(c.totals),           doubles(c.squares),         c.all_rows,   c.running_mean->value.dtype(),
          c.running_mean->value.raw(), c.running_var->value.raw(), c.options.eps};
}

void run_forward(const Call& c, const Tensor& y) {
  if (c.rows() == 0) return;
  if (c.on_cpu()) {
    batch_norm_forward_cpu(cpu_columns(c), c.input.data<float>(), c.input.row_stride(), c.rows(), c.cols(),
                           c.bias->value.data<float>(), y.data<float>());
    return;
  }
  const CudaBatchNormForward a{c.input.dtype(),
                               c.rows(),
                               c.cols(),
                               c.input.raw(),
                               c.input.row_stride(),
                               cuda_statistics(c),
                               c.weight->value.raw(),
                               c.bias->value.raw(),
                               y.raw()};
  cuda_device().run("batch_norm", &CudaBackend::batch_norm_forward, a);
}

// f64 [2, C]: sums of dy and of dy xhat.
Tensor gradient_sums(const Call& c, const Tensor& dy) {
  const Tensor sums = Tensor::empty({2, c.cols()}, DType::f64);
  if (c.on_cpu()) {
    batch_norm_sums_cpu(cpu_columns(c), dy.data<float>(), c.input.data<float>(), c.input.row_stride(), c.rows(),
                        c.cols(), doubles(sums));
    return sums;
  }
  const int64_t blocks = (c.rows() + kCudaBatchNormRows - 1) / kCudaBatchNormRows;
  const Tensor partial = Tensor::empty({blocks, 2, c.cols()}, DType::f64);
  const CudaBatchNormSums a{c.input.dtype(),      c.rows(),           c.cols(),         dy.raw(),     c.input.raw(),
                            c.input.row_stride(), cuda_statistics(c), doubles(partial), doubles(sums)};
  cuda_device().run("batch_norm backward", &CudaBackend::batch_norm_sums, a);
  return sums;
}

// gradient = factor * sums [C], or added to it.
void deliver(const Tensor& sums, double factor, Parameter& parameter) {
  const bool add = parameter.begin_accumulate() != 0.0F;
  if (sums.device() == Device::cuda) {
    const CudaAddScaled a{parameter.numel(), doubles(sums), factor, add, static_cast<float*>(parameter.grad.raw())};
    cuda_device().run("batch_norm backward", &CudaBackend::add_scaled, a);
    return;
  }
  float* to = parameter.grad.data<float>();
  for (int64_t i = 0; i < parameter.numel(); ++i) {
    to[i] = static_cast<float>(factor * doubles(sums)[i]) + (add ? to[i] : 0.0F);
  }
}

// Where the gradient of the sum goes; undefined tensors: nowhere.
struct Targets {
  Tensor residual, x;
  bool add_residual = false, add_x = false;
};

Targets make_targets(const Var& x, const Var& residual, const Tensor& dy) {
  Targets to;
  // In the memory of dy when nobody else contributed before.
  if (residual.requires_grad() && residual.adopt_gradient(dy)) {
    to.residual = dy;
  } else if (residual.requires_grad()) {
    const Gradient d = residual.begin_gradient();
    to.residual = d.tensor;
    to.add_residual = d.beta != 0.0F;
  }
  if (!x.requires_grad()) return to;
  const Gradient d = x.begin_gradient();
  to.x = d.tensor;
  to.add_x = d.beta != 0.0F;
  return to;
}

void run_backward_cpu(const Call& c, const Tensor& dy, const Tensor& sums, const Targets& to, const DropoutDraw& draw) {
  std::vector<double> means;
  for (int64_t i = 0; sums.defined() && i < 2 * c.cols(); ++i) {
    means.push_back(doubles(sums)[i] / static_cast<double>(c.all_rows));
  }
  BatchNormBackward a;
  a.rows = c.rows();
  a.cols = c.cols();
  a.dy = dy.data<float>();
  a.input = c.input.data<float>();
  a.input_stride = c.input.row_stride();
  a.means = sums.defined() ? means.data() : nullptr;
  a.dresidual = to.residual.defined() ? to.residual.data<float>() : nullptr;
  a.dresidual_stride = to.residual.row_stride();
  a.add_residual = to.add_residual;
  a.dx = to.x.defined() ? to.x.data<float>() : nullptr;
  a.dx_stride = to.x.row_stride();
  a.add_x = to.add_x;
  batch_norm_backward_cpu(cpu_columns(c), a, draw);
}

void run_backward(const Call& c, const Tensor& dy, const Tensor& sums, const Targets& to, const DropoutDraw& draw) {
  if (c.rows() == 0 || (!to.residual.defined() && !to.x.defined())) return;
  if (c.on_cpu()) {
    run_backward_cpu(c, dy, sums, to, draw);
    return;
  }
  const CudaBatchNormBackward a{c.input.dtype(),
                                c.rows(),
                                c.cols(),
                                dy.raw(),
                                c.input.raw(),
                                c.input.row_stride(),
                                cuda_statistics(c),
                                c.weight->value.raw(),
                                doubles(sums),
                                to.residual.raw(),
                                to.residual.row_stride(),
                                to.add_residual,
                                to.x.raw(),
                                to.x.row_stride(),
                                to.add_x,
                                draw.cuda()};
  cuda_device().run("batch_norm backward", &CudaBackend::batch_norm_backward, a);
}

void backward(const Call& c, const Var& x, const Var& residual, const Tensor& dy, const DropoutDraw& draw) {
  const Tensor sums = gradient_sums(c, dy);
  deliver(sums.narrow(1, 1).view({c.cols()}), 1.0, *c.weight);
  deliver(sums.narrow(0, 1).view({c.cols()}), 1.0, *c.bias);
  if (c.totals.defined()) {
    deliver(c.own_totals, 1.0 / static_cast<double>(std::max<int64_t>(1, c.all_rows)), *c.running_mean);
    deliver(c.own_squares, 1.0 / static_cast<double>(std::max<int64_t>(1, c.all_rows - 1)), *c.running_var);
    c.reduce(sums);
  }
  run_backward(c, dy, c.totals.defined() ? sums : Tensor(), make_targets(x, residual, dy), draw);
}

}  // namespace

Var batch_norm(Tape& tape, const Var& x, const Var& residual, const BatchNormParameters& parameters,
               const BatchNormOptions& options, const DropoutSite* dropout) {
  Call call;
  call.input = residual.value();
  call.weight = &parameters.weight;
  call.bias = &parameters.bias;
  call.running_mean = &parameters.running_mean;
  call.running_var = &parameters.running_var;
  call.options = options;
  call.all_rows = options.rows == 0 ? call.rows() : options.rows;
  check(call);
  const bool branch = x.defined();
  if (branch) {
    expect_shape("batch_norm", "x", x.value(), residual.shape());
    expect_together("batch_norm", {&x.value(), &call.input});
  }
  DropoutDraw draw("batch_norm", branch ? dropout : nullptr, call.rows());
  const Tensor sum = branch ? Tensor::empty(residual.shape(), call.input.dtype()) : Tensor();
  const int64_t count = options.training ? (call.rows() + block_rows(call) - 1) / block_rows(call) : 0;
  Blocks blocks;
  if (options.training) {
    blocks.means = Tensor::empty({count, call.cols()}, DType::f64);
    blocks.squares = Tensor::empty({count, call.cols()}, DType::f64);
  }
  if ((branch || options.training) && call.rows() > 0) {
    run_blocks(call, branch ? x.value() : Tensor(), sum, draw, blocks);
  }
  if (branch) call.input = sum;
  if (options.training) take_statistics(call, blocks);
  if (call.on_cpu()) fill_columns(call);
  Tensor y = Tensor::empty(residual.shape(), call.input.dtype());
  run_forward(call, y);
  const Var out = tape.variable(std::move(y), {x, residual}, /*uses_parameters=*/true);
  std::vector<Parameter*> used = {call.weight, call.bias};
  if (options.training) used.insert(used.end(), {call.running_mean, call.running_var});
  tape.record(out, std::move(used), [x, residual, out, call = std::move(call), draw = std::move(draw)] {
    backward(call, x, residual, out.grad(), draw);
  });
  return out;
}

}  // namespace farsight
