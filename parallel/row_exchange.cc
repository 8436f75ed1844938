// SPDX-License-Identifier: Apache-2.0
#include "parallel/row_exchange.h"

#include <span>
#include <vector>

#include "kernels/parallel_for.h"

namespace farsight {
namespace {

std::vector<int64_t> counts(const TensorGroup& group, int64_t unit) {
  std::vector<int64_t> result;
  for (int r = 0; r < group.comm->size(); ++r) result.push_back(group.row_count(r) * unit);
  return result;
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

}  // namespace

RowGathering::RowGathering(const TensorGroup& group, const Tensor& own) {
  if (!group.sequence) {
    rows_ = own;
    return;
  }
  const int64_t columns = own.cols();
  rows_ = Tensor::empty({group.rows, columns}, DType::f32, MemoryTag::communication);
  request_ = group.comm->all_gather_async(std::as_bytes(own.span<float>()), std::as_writable_bytes(rows_.span<float>()),
                                          counts(group, columns * static_cast<int64_t>(sizeof(float))));
}

const Tensor& RowGathering::wait() {
  if (request_) request_->wait();
  request_.reset();
  return rows_;
}

RowReduction::RowReduction(const TensorGroup& group, const Tensor& partial) : partial_(partial) {
  if (!group.sequence) {
    own_ = partial;
    request_ = group.comm->all_reduce_async(own_.span<float>(), ReduceOp::sum);
    return;
  }
  own_ = Tensor::empty({group.row_count(group.comm->rank()), partial.cols()});
  request_ = group.comm->reduce_scatter_async(partial_.span<float>(), own_.span<float>(), counts(group, partial.cols()),
                                              ReduceOp::sum);
}

const Tensor& RowReduction::wait() {
  request_->wait();
  partial_ = Tensor();
  return own_;
}

void give_gradient(const Var& x, const Tensor& gradient) {
  if (!x.requires_grad() || x.adopt_gradient(gradient)) return;
  const Gradient target = x.begin_gradient();
  if (target.beta == 0.0F) target.tensor.fill_zero();
  add_to(gradient, target.tensor);
}

}  // namespace farsight
