// SPDX-License-Identifier: Apache-2.0
#include "parallel/tiled_rows.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/linear_products.h"
#include "kernels/rows.h"
#include "parallel/row_exchange.h"

namespace farsight {
namespace {

Tensor run_forward(const Tensor& rows, int64_t chunk, int64_t width, const RowFunction& compute) {
  const Tensor y = Tensor::empty({rows.rows(), width}, rows.dtype());
  for (int64_t begin = 0; begin < rows.rows(); begin += chunk) {
    const int64_t count = std::min(chunk, rows.rows() - begin);
    Tape tape(/*recording=*/false);
    const Var part = compute(tape, tape.input(rows.narrow(begin, count)));
    expect_shape("tiled_rows", "result", part.value(), {count, width});
    copy_rows(part.value(), y.narrow(begin, count));
  }
  return y;
}

// A scalar whose backward gives `out` the gradient `dy`.
Var seeded(Tape& tape, const Var& out, const Tensor& dy) {
  const Var root = tape.variable(Tensor::zeros({1}), {out});
  tape.record(root, {}, [out, dy] {
    if (!out.adopt_gradient(dy)) fail(ErrorKind::internal, "tiled_rows: the result has a gradient already");
  });
  return root;
}

Tensor run_backward(const Tensor& rows, const Tensor& dy, int64_t chunk, const RowFunction& compute) {
  const Tensor dx = Tensor::empty(rows.shape(), rows.dtype());
  for (int64_t begin = 0; begin < rows.rows(); begin += chunk) {
    const int64_t count = std::min(chunk, rows.rows() - begin);
    Tape tape;
    const Var x = tape.input(rows.narrow(begin, count), /*requires_grad=*/true);
    const Var root = seeded(tape, compute(tape, x), dy.narrow(begin, count));
    tape.backward(root);
    copy_rows(x.grad(), dx.narrow(begin, count));
  }
  return dx;
}

}  // namespace

Var tiled_rows(Tape& tape, const TensorGroup& group, const Var& x, int64_t chunk_rows, int64_t width,
               const std::vector<Parameter*>& parameters, Parameter* bias, RowFunction compute) {
  if (chunk_rows < 1) fail(ErrorKind::internal, "tiled_rows: chunks of {} rows", chunk_rows);
  const Tensor own = x.value();
  const ParameterBlock shift = bias == nullptr ? ParameterBlock() : ParameterBlock({&bias, 1});
  Tensor y = RowReduction(group, run_forward(RowGathering(group, own).wait(), chunk_rows, width, compute)).wait();
  add_bias(shift, y);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  std::vector<Parameter*> used = parameters;
  used.push_back(bias);
  tape.record(out, std::move(used), [x, out, own, shift, group, chunk_rows, compute = std::move(compute)] {
    RowGathering rows(group, own);
    RowGathering dy(group, out.grad());
    bias_gradient(out.grad(), shift);
    const Tensor dx = run_backward(rows.wait(), dy.wait(), chunk_rows, compute);
    give_gradient(x, RowReduction(group, dx).wait());
  });
  return out;
}

}  // namespace farsight
