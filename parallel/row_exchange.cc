// SPDX-License-Identifier: Apache-2.0
#include "parallel/row_exchange.h"

#include <span>
#include <vector>

namespace farsight {
namespace {

std::vector<int64_t> counts(const TensorGroup& group, int64_t unit) {
  std::vector<int64_t> result;
  for (int r = 0; r < group.comm->size(); ++r) result.push_back(group.row_count(r) * unit);
  return result;
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
    if (group.comm->size() == 1) return;
    request_ = group.comm->all_reduce_async(own_.span<float>(), ReduceOp::sum);
    return;
  }
  own_ = Tensor::empty({group.row_count(group.comm->rank()), partial.cols()});
  request_ = group.comm->reduce_scatter_async(partial_.span<float>(), own_.span<float>(), counts(group, partial.cols()),
                                              ReduceOp::sum);
}

const Tensor& RowReduction::wait() {
  if (request_) request_->wait();
  partial_ = Tensor();
  return own_;
}

}  // namespace farsight
