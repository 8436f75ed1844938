// SPDX-License-Identifier: Apache-2.0
#include "parallel/key_gather.h"

#include <numeric>

namespace farsight {
namespace {

Tensor own_part(const Tensor& all, const std::vector<int64_t>& counts, int rank) {
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
  return all.narrow(begin, counts[static_cast<size_t>(rank)]);
}

}  // namespace

std::vector<int64_t> KeyTurns::counts(int64_t turn) const {
  std::vector<int64_t> result;
  for (int64_t owner = 0; owner < layout.owners(); ++owner) {
    result.push_back(batch * layout.count(owner) * columns(turn));
  }
  return result;
}

KeyBlock KeyTurns::block(const Tensor& slot, int64_t turn, int64_t owner) const {
  const std::vector<int64_t> all = counts(turn);
  const auto i = static_cast<size_t>(owner);
  const int64_t begin = std::accumulate(all.begin(), all.begin() + owner, int64_t{0});
  const Tensor rows = slot.narrow(begin, all[i]).view({batch * layout.count(owner), columns(turn)});
  return {rows.narrow_last(0, heads(turn) * width), rows.narrow_last(heads(turn) * width, heads(turn) * value_width),
          owner};
}

Tensor TurnSlots::slot(int64_t turn) {
  Tensor& memory = slots_[static_cast<size_t>(turn % 2)];
  if (!memory.defined()) {  // the first turns have the most heads
    memory =
        Tensor::empty({turns_.batch * turns_.layout.tokens() * turns_.columns(0)}, dtype_, MemoryTag::communication);
  }
  return memory.narrow(0, turns_.batch * turns_.layout.tokens() * turns_.columns(turn));
}

void KeyGather::start(int64_t turn) {
  const int64_t first = turns_.first_head(turn), heads = turns_.heads(turn);
  const KeyBlock own = block(turn, group_.rank());
  copy_columns(k_.narrow_last(first * turns_.width, heads * turns_.width), own.k, 0);
  copy_columns(v_.narrow_last(first * turns_.value_width, heads * turns_.value_width), own.v, 0);
  request_ = group_.all_gather_tensor(own_part(slots_.slot(turn), turns_.counts(turn), group_.rank()),
                                      slots_.slot(turn), turns_.counts(turn));
}

void GradientScatter::start(int64_t turn) {
  finish();
  const std::vector<int64_t> counts = turns_.counts(turn);
  const Tensor all = slots_.slot(turn);
  started_ = turn;
  request_ = group_.reduce_scatter_tensor(all, own_part(all, counts, group_.rank()), counts, ReduceOp::sum);
}

void GradientScatter::finish() {
  if (started_ < 0) return;
  request_->wait();
  const KeyBlock own = block(started_, group_.rank());
  const int64_t first = turns_.first_head(started_), heads = turns_.heads(started_);
  add_columns(own.k, 0, dk_.narrow_last(first * turns_.width, heads * turns_.width));
  add_columns(own.v, 0, dv_.narrow_last(first * turns_.value_width, heads * turns_.value_width));
  started_ = -1;
}

}  // namespace farsight
