// SPDX-License-Identifier: Apache-2.0
// Remembers the ids of short pre-tokens. Text repeats itself: nearly every pre-token is found here. Bounded: a full
// cache is emptied, which costs time and never changes a result.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace farsight {

class PretokenCache {
 public:
  PretokenCache() : slots_(kFirstSlots) {}

  static uint64_t hash_of(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

  // Nothing (size 0) when unknown; an encoding always has at least one id.
  std::span<const uint32_t> find(std::string_view text, uint64_t hash) const {
    for (size_t at = hash & (slots_.size() - 1); slots_[at].ids_size != 0; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.hash != hash || slot.text_size != text.size()) continue;
      if (std::memcmp(texts_.data() + slot.text_at, text.data(), text.size()) != 0) continue;
      return {ids_.data() + slot.ids_at, slot.ids_size};
    }
    return {};
  }

  // `text` is not in the cache, shorter than 65,536 bytes and has as many ids or fewer.
  void add(std::string_view text, uint64_t hash, std::span<const uint32_t> ids) {
    if (2 * (count_ + 1) > slots_.size()) make_room();
    place({.hash = hash,
           .text_at = static_cast<uint32_t>(texts_.size()),
           .ids_at = static_cast<uint32_t>(ids_.size()),
           .text_size = static_cast<uint16_t>(text.size()),
           .ids_size = static_cast<uint16_t>(ids.size())});
    texts_.append(text);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    ++count_;
  }

 private:
  static constexpr size_t kFirstSlots = size_t{1} << 12;
  static constexpr size_t kMostSlots = size_t{1} << 19;  // about 40 MiB in all

  struct Slot {
    uint64_t hash = 0;
    uint32_t text_at = 0, ids_at = 0;
    uint16_t text_size = 0, ids_size = 0;  // ids_size 0: free
  };

  void place(const Slot& slot) {
    size_t at = slot.hash & (slots_.size() - 1);
    while (slots_[at].ids_size != 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }

  void make_room() {
    if (slots_.size() == kMostSlots) {
      slots_.assign(kMostSlots, {});
      texts_.clear();
      ids_.clear();
      count_ = 0;
      return;
    }
    const std::vector<Slot> old = std::move(slots_);
    slots_.assign(2 * old.size(), {});
    for (const Slot& slot : old) {
      if (slot.ids_size != 0) place(slot);
    }
  }

  std::vector<Slot> slots_;
  std::string texts_;
  std::vector<uint32_t> ids_;
  size_t count_ = 0;
};

}  // namespace farsight
