// SPDX-License-Identifier: Apache-2.0
#include "parallel/tensor_parallel.h"

#include <utility>

#include "kernels/error.h"
#include "kernels/linear_products.h"
#include "parallel/row_exchange.h"

namespace farsight {
namespace {

void check_rows(const char* op, const TensorGroup& group, const Var& x, bool gathered) {
  const int64_t rows = gathered ? group.rows : group.row_count(group.comm->rank());
  if (x.shape().size() == 2 && x.shape()[0] == rows && x.value().contiguous()) return;
  fail(ErrorKind::internal, "{}: rank {} of {} has x {}, expected {} contiguous rows", op, group.comm->rank(),
       group.comm->size(), to_string(x.shape()), rows);
}

}  // namespace

Var column_linear(Tape& tape, const TensorGroup& group, const Var& x, std::span<Parameter* const> weights,
                  std::span<Parameter* const> biases) {
  check_rows("column_linear", group, x, /*gathered=*/false);
  const Tensor own = x.value();
  const LinearBlocks blocks(weights, biases, own.cols());
  Tensor y = Tensor::empty({group.rows, blocks.out()}, own.dtype());
  linear_forward(RowGathering(group, own).wait(), blocks, y);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  tape.record(out, blocks.parameters(), [x, out, own, blocks, group] {
    const Tensor& dy = out.grad();
    RowGathering rows(group, own);
    const Tensor partial = Tensor::empty({group.rows, own.cols()}, own.dtype());
    linear_input_gradient(dy, blocks.weight, 0.0F, partial);
    RowReduction dx(group, partial);
    linear_weight_gradient(rows.wait(), dy, blocks.weight);
    bias_gradient(dy, blocks.bias);
    give_gradient(x, dx.wait());
  });
  return out;
}

Var row_linear(Tape& tape, const TensorGroup& group, const Var& x, Parameter& weight, Parameter* bias) {
  check_rows("row_linear", group, x, /*gathered=*/true);
  const Tensor input = x.value();
  Parameter* const weights[] = {&weight};
  const LinearBlocks blocks(weights, {}, input.cols());
  const ParameterBlock shift = bias == nullptr ? ParameterBlock() : ParameterBlock({&bias, 1});
  const Tensor partial = Tensor::empty({group.rows, blocks.out()}, input.dtype());
  linear_forward(input, blocks, partial);
  Tensor y = RowReduction(group, partial).wait();
  add_bias(shift, y);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  tape.record(out, {&weight, bias}, [x, out, input, blocks, shift, group] {
    RowGathering rows(group, out.grad());
    bias_gradient(out.grad(), shift);
    const Tensor& dy = rows.wait();
    linear_weight_gradient(input, dy, blocks.weight);
    if (!x.requires_grad()) return;
    const Gradient dx = x.begin_gradient();
    linear_input_gradient(dy, blocks.weight, dx.beta, dx.tensor);
  });
  return out;
}

Var gather_rows(Tape& tape, const TensorGroup& group, const Var& x) {
  check_rows("gather_rows", group, x, /*gathered=*/false);
  // A value of its own even where nothing has to move: its gradient is a partial sum, that of x is not.
  const Tensor rows = RowGathering(group, x.value()).wait();
  const Var out = tape.variable(rows, {x});
  tape.record(out, {}, [x, out, group] { give_gradient(x, RowReduction(group, out.grad()).wait()); });
  return out;
}

Var scatter_sum(Tape& tape, const TensorGroup& group, const Var& x) {
  check_rows("scatter_sum", group, x, /*gathered=*/true);
  Tensor partial = x.value();
  if (!group.sequence) partial = partial.clone();
  const Var out = tape.variable(RowReduction(group, partial).wait(), {x});
  tape.record(out, {}, [x, out, group] { give_gradient(x, RowGathering(group, out.grad()).wait()); });
  return out;
}

}  // namespace farsight
