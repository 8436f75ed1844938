// SPDX-License-Identifier: Apache-2.0
#include "parallel/all_reduce.h"

#include <algorithm>

#include "parallel/ordered_reduce.h"

namespace farsight {

template <typename T>
LargeAllReduce<T>::LargeAllReduce(Transport& transport, std::span<T> data, ReduceOp op, int tag, int64_t piece_bytes)
    : transport_(transport), data_(data), op_(op), tag_(tag) {
  const auto size = static_cast<int64_t>(sizeof(T));
  piece_ = std::clamp<int64_t>(piece_bytes / size, 1, std::max<int64_t>(1, static_cast<int64_t>(data.size())));
}

template <typename T>
typename LargeAllReduce<T>::Chunk LargeAllReduce<T>::chunk(int owner) const {
  const int64_t count = std::min(piece_, static_cast<int64_t>(data_.size()) - begin_);
  const int64_t n = transport_.size();
  const int64_t first = count * owner / n;
  return {begin_ + first, count * (owner + 1) / n - first};
}

template <typename T>
void LargeAllReduce<T>::post_send(const Chunk& c, int to) {
  if (c.count == 0) return;
  messages_.push_back(transport_.send(reinterpret_cast<const std::byte*>(data_.data() + c.begin),
                                      c.count * static_cast<int64_t>(sizeof(T)), to, tag_));
}

template <typename T>
void LargeAllReduce<T>::start_contributions() {
  const int n = transport_.size();
  const int me = transport_.rank();
  const Chunk mine = chunk(me);
  const int64_t bytes = mine.count * static_cast<int64_t>(sizeof(T));
  if (!staging_.defined() || staging_.numel() < bytes * (n - 1)) {
    staging_ = Tensor::empty({bytes * (n - 1)}, DType::u8, MemoryTag::communication, Device::cpu);
  }
  contributions_.assign(static_cast<size_t>(n), data_.data() + mine.begin);
  auto* slot = static_cast<std::byte*>(staging_.raw());
  // Everyone starts with its right neighbour, so that no rank is everybody's first target.
  for (int step = 1; step < n && mine.count > 0; ++step, slot += bytes) {
    const int from = (me - step + n) % n;
    contributions_[static_cast<size_t>(from)] = reinterpret_cast<const T*>(slot);
    messages_.push_back(transport_.receive(slot, bytes, from, tag_));
  }
  for (int step = 1; step < n; ++step) post_send(chunk((me + step) % n), (me + step) % n);
}

template <typename T>
void LargeAllReduce<T>::combine() {
  const Chunk mine = chunk(transport_.rank());
  reduce_in_order<T>(contributions_, data_.data() + mine.begin, mine.count, op_);
}

template <typename T>
void LargeAllReduce<T>::start_results() {
  const int n = transport_.size();
  const int me = transport_.rank();
  for (int step = 1; step < n; ++step) {
    const int from = (me - step + n) % n;
    const Chunk c = chunk(from);
    if (c.count == 0) continue;
    messages_.push_back(transport_.receive(reinterpret_cast<std::byte*>(data_.data() + c.begin),
                                           c.count * static_cast<int64_t>(sizeof(T)), from, tag_));
  }
  for (int step = 1; step < n; ++step) post_send(chunk(me), (me + step) % n);
}

template <typename T>
bool LargeAllReduce<T>::messages_finished() {
  std::erase_if(messages_, [](const MessagePtr& m) { return m->test(); });
  return messages_.empty();
}

template <typename T>
bool LargeAllReduce<T>::advance() {
  for (;;) {
    if (!messages_finished()) return false;
    if (stage_ == Stage::start) {
      if (begin_ >= static_cast<int64_t>(data_.size()) || transport_.size() == 1) return true;
      start_contributions();
      stage_ = Stage::contributions;
    } else if (stage_ == Stage::contributions) {
      combine();
      start_results();
      stage_ = Stage::results;
    } else {
      begin_ += piece_;
      stage_ = Stage::start;
    }
  }
}

template class LargeAllReduce<float>;
template class LargeAllReduce<double>;
template class LargeAllReduce<int64_t>;

}  // namespace farsight
