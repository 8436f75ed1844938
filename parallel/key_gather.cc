// SPDX-License-Identifier: Apache-2.0
#include "parallel/key_gather.h"

#include <numeric>
#include <span>

namespace farsight {

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
    memory = Tensor::empty({turns_.batch * turns_.layout.tokens() * turns_.columns(0)}, DType::f32,
                           MemoryTag::communication);
  }
  return memory.narrow(0, turns_.batch * turns_.layout.tokens() * turns_.columns(turn));
}

void KeyGather::start(int64_t turn) {
  const int64_t first = turns_.first_head(turn), heads = turns_.heads(turn);
  const KeyBlock own = block(turn, group_.rank());
  copy_columns(k_.narrow_last(first * turns_.width, heads * turns_.width), own.k, 0);
  copy_columns(v_.narrow_last(first * turns_.value_width, heads * turns_.value_width), own.v, 0);
  std::vector<int64_t> bytes = turns_.counts(turn);
  for (int64_t& n : bytes) n *= size_of(DType::f32);
  const Tensor slot = slots_.slot(turn);
  const std::span<std::byte> all{static_cast<std::byte*>(slot.raw()), static_cast<size_t>(slot.bytes())};
  const auto me = static_cast<size_t>(group_.rank());
  const auto begin = static_cast<size_t>(std::accumulate(bytes.begin(), bytes.begin() + group_.rank(), int64_t{0}));
  request_ = group_.all_gather_async(all.subspan(begin, static_cast<size_t>(bytes[me])), all, bytes);
}

void GradientScatter::start(int64_t turn) {
  finish();
  const std::vector<int64_t> counts = turns_.counts(turn);
  const std::span<float> all = slots_.slot(turn).span<float>();
  const auto me = static_cast<size_t>(group_.rank());
  const auto begin = static_cast<size_t>(std::accumulate(counts.begin(), counts.begin() + group_.rank(), int64_t{0}));
  started_ = turn;
  request_ =
      group_.reduce_scatter_async(all, all.subspan(begin, static_cast<size_t>(counts[me])), counts, ReduceOp::sum);
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
