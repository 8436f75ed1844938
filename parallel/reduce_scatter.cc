// SPDX-License-Identifier: Apache-2.0
#include "parallel/reduce_scatter.h"

#include <algorithm>
#include <numeric>

#include "parallel/ordered_reduce.h"

namespace farsight {

ReduceScatter::ReduceScatter(Transport& transport, std::span<const float> data, std::span<float> mine,
                             std::span<const int64_t> counts, ReduceOp op, int tag, int64_t round_bytes)
    : transport_(transport), data_(data), mine_(mine), counts_(counts.begin(), counts.end()), op_(op), tag_(tag) {
  begins_.resize(counts_.size());
  std::exclusive_scan(counts_.begin(), counts_.end(), begins_.begin(), int64_t{0});
  const int64_t longest = *std::max_element(counts_.begin(), counts_.end());
  const int64_t wanted = round_bytes / static_cast<int64_t>(sizeof(float)) / transport.size();
  step_ = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, longest));
  rounds_ = (longest + step_ - 1) / step_;
}

std::span<const float> ReduceScatter::part(int owner) const {
  const auto o = static_cast<size_t>(owner);
  const int64_t first = std::min(round_ * step_, counts_[o]);
  const int64_t last = std::min(first + step_, counts_[o]);
  return data_.subspan(static_cast<size_t>(begins_[o] + first), static_cast<size_t>(last - first));
}

void ReduceScatter::start_round() {
  const int n = transport_.size();
  const int me = transport_.rank();
  const auto own = part(me);
  contributions_.assign(static_cast<size_t>(n), own.data());
  if (n > 1 && !own.empty() && !staging_.defined()) {
    staging_ = Tensor::empty({n - 1, step_}, DType::f32, MemoryTag::communication, Device::cpu);
  }
  for (int hop = 1; hop < n && !own.empty(); ++hop) {
    const int from = (me - hop + n) % n;
    float* slot = staging_.data<float>() + (hop - 1) * step_;
    contributions_[static_cast<size_t>(from)] = slot;
    messages_.push_back(
        transport_.receive(reinterpret_cast<std::byte*>(slot), static_cast<int64_t>(own.size_bytes()), from, tag_));
  }
  for (int hop = 1; hop < n; ++hop) {
    const int to = (me + hop) % n;
    const auto theirs = part(to);
    if (theirs.empty()) continue;
    messages_.push_back(transport_.send(reinterpret_cast<const std::byte*>(theirs.data()),
                                        static_cast<int64_t>(theirs.size_bytes()), to, tag_));
  }
}

void ReduceScatter::combine() {
  const auto own = part(transport_.rank());
  if (own.empty()) return;
  reduce_in_order<float>(contributions_, mine_.data() + round_ * step_, static_cast<int64_t>(own.size()), op_);
}

bool ReduceScatter::advance() {
  for (;;) {
    std::erase_if(messages_, [](const MessagePtr& m) { return m->test(); });
    if (!messages_.empty()) return false;
    if (round_ >= 0 && round_ < rounds_) combine();
    if (round_ >= rounds_) return true;
    if (++round_ >= rounds_) return true;
    start_round();
  }
}

}  // namespace farsight
