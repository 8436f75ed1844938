// SPDX-License-Identifier: Apache-2.0
#include "data/document_assembler.h"

#include <algorithm>

#include <xxhash.h>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kItemBytes = 1 << 20;

}  // namespace

struct DocumentAssembler::Hash {
  Hash() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~Hash() { XXH3_freeState(state); }
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  uint64_t take() {
    const uint64_t value = XXH3_64bits_digest(state);
    XXH3_64bits_reset(state);
    return value;
  }
  XXH3_state_t* state;
};

DocumentAssembler::DocumentAssembler(AssemblerRules rules, SafePrefix safe_prefix, Problems& problems, Emit emit)
    : rules_(std::move(rules)),
      safe_prefix_(std::move(safe_prefix)),
      problems_(problems),
      emit_(std::move(emit)),
      hash_(std::make_unique<Hash>()),
      retry_size_(kItemBytes) {}

DocumentAssembler::~DocumentAssembler() = default;

void DocumentAssembler::begin_input(std::string name, int32_t source) {
  name_ = std::move(name);
  source_ = source;
}

void DocumentAssembler::text(std::string_view piece) {
  while (!piece.empty()) {
    const bool cut_ahead = rules_.by == SplitBy::position && next_cut_ < rules_.cuts.size();
    const auto room = cut_ahead ? static_cast<size_t>(rules_.cuts[next_cut_] - position_) : piece.size();
    const std::string_view head = piece.substr(0, room);
    append(head);
    piece.remove_prefix(head.size());
    if (!cut_ahead || position_ < rules_.cuts[next_cut_]) continue;
    // A document that goes on behind the cut becomes one in each split.
    if (part_bytes_ > 0) close_segment(/*ends_text=*/false);
    ++next_cut_;
  }
}

void DocumentAssembler::append(std::string_view piece) {
  if (rules_.by == SplitBy::document) XXH3_64bits_update(hash_->state, piece.data(), piece.size());
  item_.text.append(piece);
  const auto bytes = static_cast<int64_t>(piece.size());
  part_bytes_ += bytes;
  document_bytes_ += bytes;
  position_ += bytes;
  flush_if_large();
}

void DocumentAssembler::end_document(const std::string& place) {
  if (document_bytes_ == 0) {
    if (rules_.skip_empty) {
      ++skipped_;
    } else {
      problems_.add("empty documents", fmt::format("{}: {}: empty document; --empty=skip leaves it out", name_, place));
    }
    return;
  }
  if (part_bytes_ > 0) {
    close_segment(/*ends_text=*/true);
  } else {  // the document ended exactly at a cut
    item_.segments.back().ends_text = true;
  }
  ++documents_;
  document_bytes_ = 0;
  if (item_.text.size() >= kItemBytes) emit();
}

void DocumentAssembler::close_segment(bool ends_text) {
  const int split =
      rules_.by == SplitBy::document ? rules_.fractions->of_hash(hash_->take()) : static_cast<int>(next_cut_);
  item_.segments.push_back({.begin = segment_begin_,
                            .end = item_.text.size(),
                            .starts = starts_,
                            .closes = true,
                            .ends_text = ends_text,
                            .split = split,
                            .bytes = part_bytes_,
                            .source = source_});
  segment_begin_ = item_.text.size();
  starts_ = true;
  part_bytes_ = 0;
}

void DocumentAssembler::flush_if_large() {
  const size_t open = item_.text.size() - segment_begin_;
  if (open < retry_size_) return;
  const size_t safe = safe_prefix_(std::string_view(item_.text).substr(segment_begin_));
  if (safe == 0) {  // looked at again when there is twice as much, so that the search stays linear
    retry_size_ = 2 * open;
    return;
  }
  std::string rest = item_.text.substr(segment_begin_ + safe);
  item_.text.resize(segment_begin_ + safe);
  item_.segments.push_back({.begin = segment_begin_,
                            .end = item_.text.size(),
                            .starts = starts_,
                            .closes = false,
                            .ends_text = false,
                            .split = 0,
                            .bytes = 0,
                            .source = source_});
  starts_ = false;
  emit();
  item_.text = std::move(rest);
  retry_size_ = kItemBytes + item_.text.size();
}

void DocumentAssembler::emit() {
  if (!item_.segments.empty()) emit_(std::move(item_));
  item_ = {};
  segment_begin_ = 0;
  retry_size_ = kItemBytes;
}

void DocumentAssembler::finish() { emit(); }

}  // namespace farsight
