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
  rows_ = Tensor::empty({group.rows, columns}, own.dtype(), MemoryTag::communication);
  request_ = group.comm->all_gather_tensor(own, rows_, counts(group, columns));
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
    request_ = group.comm->all_reduce_tensor(own_, ReduceOp::sum);
    return;
  }
  own_ = Tensor::empty({group.row_count(group.comm->rank()), partial.cols()}, partial.dtype());
  request_ = group.comm->reduce_scatter_tensor(partial_, own_, counts(group, partial.cols()), ReduceOp::sum);
}

const Tensor& RowReduction::wait() {
  if (request_) request_->wait();
  partial_ = Tensor();
  return own_;
}

}  // namespace farsight
