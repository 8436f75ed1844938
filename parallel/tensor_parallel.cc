// SPDX-License-Identifier: Apache-2.0
#include "parallel/tensor_parallel.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/linear_products.h"
#include "kernels/parallel_for.h"

namespace farsight {
namespace {

std::vector<int64_t> counts(const TensorGroup& group, int64_t unit) {
  std::vector<int64_t> result;
  for (int r = 0; r < group.comm->size(); ++r) result.push_back(group.row_count(r) * unit);
  return result;
}

// Rows of all ranks as they arrive.
class Gathering {
 public:
  Gathering(const TensorGroup& group, const Tensor& own) {
    if (!group.sequence) {
      rows_ = own;
      return;
    }
    const int64_t columns = own.cols();
    rows_ = Tensor::empty({group.rows, columns}, DType::f32, MemoryTag::communication);
    request_ =
        group.comm->all_gather_async(std::as_bytes(own.span<float>()), std::as_writable_bytes(rows_.span<float>()),
                                     counts(group, columns * static_cast<int64_t>(sizeof(float))));
  }
  const Tensor& wait() {
    if (request_) request_->wait();
    request_.reset();
    return rows_;
  }

 private:
  Tensor rows_;
  RequestPtr request_;
};

// The own rows of a sum over the ranks, while it is formed. `partial` is consumed.
class Reduction {
 public:
  Reduction(const TensorGroup& group, const Tensor& partial) : partial_(partial) {
    if (!group.sequence) {
      own_ = partial;
      request_ = group.comm->all_reduce_async(own_.span<float>(), ReduceOp::sum);
      return;
    }
    own_ = Tensor::empty({group.row_count(group.comm->rank()), partial.cols()});
    request_ = group.comm->reduce_scatter_async(partial_.span<float>(), own_.span<float>(),
                                                counts(group, partial.cols()), ReduceOp::sum);
  }
  const Tensor& wait() {
    request_->wait();
    partial_ = Tensor();
    return own_;
  }

 private:
  Tensor partial_, own_;
  RequestPtr request_;
};

void check_rows(const char* op, const TensorGroup& group, const Var& x, bool gathered) {
  const int64_t rows = gathered ? group.rows : group.row_count(group.comm->rank());
  if (x.shape().size() == 2 && x.shape()[0] == rows && x.value().contiguous()) return;
  fail(ErrorKind::internal, "{}: rank {} of {} has x {}, expected {} contiguous rows", op, group.comm->rank(),
       group.comm->size(), to_string(x.shape()), rows);
}

void add_to(const Tensor& from, const Tensor& to) {
  const auto x = from.span<float>();
  parallel_for(to.rows(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* y = to.data<float>() + r * to.row_stride();
      for (int64_t c = 0; c < to.cols(); ++c) y[c] += x[static_cast<size_t>(r * to.cols() + c)];
    }
  });
}

// Hands a finished tensor over as the gradient of x, or a part of it.
void give_gradient(const Var& x, const Tensor& gradient) {
  if (!x.requires_grad() || x.adopt_gradient(gradient)) return;
  const Gradient target = x.begin_gradient();
  if (target.beta == 0.0F) target.tensor.fill_zero();
  add_to(gradient, target.tensor);
}

}  // namespace

Var column_linear(Tape& tape, const TensorGroup& group, const Var& x, std::span<Parameter* const> weights,
                  std::span<Parameter* const> biases) {
  check_rows("column_linear", group, x, /*gathered=*/false);
  const Tensor own = x.value();
  const LinearBlocks blocks(weights, biases, own.cols());
  Tensor y = Tensor::empty({group.rows, blocks.out()});
  linear_forward(Gathering(group, own).wait(), blocks, y);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  tape.record(out, blocks.parameters(), [x, out, own, blocks, group] {
    const Tensor& dy = out.grad();
    Gathering rows(group, own);
    const Tensor partial = Tensor::empty({group.rows, own.cols()});
    linear_input_gradient(dy, blocks.weight, 0.0F, partial);
    Reduction dx(group, partial);
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
  const Tensor partial = Tensor::empty({group.rows, blocks.out()});
  linear_forward(input, blocks, partial);
  Tensor y = Reduction(group, partial).wait();
  add_bias(shift, y);
  const Var out = tape.variable(std::move(y), {x}, /*uses_parameters=*/true);
  tape.record(out, {&weight, bias}, [x, out, input, blocks, shift, group] {
    Gathering rows(group, out.grad());
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
  const Tensor rows = Gathering(group, x.value()).wait();
  const Var out = tape.variable(rows, {x});
  tape.record(out, {}, [x, out, group] { give_gradient(x, Reduction(group, out.grad()).wait()); });
  return out;
}

Var scatter_sum(Tape& tape, const TensorGroup& group, const Var& x) {
  check_rows("scatter_sum", group, x, /*gathered=*/true);
  Tensor partial = x.value();
  if (!group.sequence) partial = partial.clone();
  const Var out = tape.variable(Reduction(group, partial).wait(), {x});
  tape.record(out, {}, [x, out, group] { give_gradient(x, Gathering(group, out.grad()).wait()); });
  return out;
}

}  // namespace farsight
